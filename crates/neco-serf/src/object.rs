//! Where an object of MessagePack ends: objects come back to back, without a length before them.
//!
//! The scanner goes over each byte once however the pieces fall, keeps a counter in the place of a stack, and so costs no
//! more for an object that pretends to be deep or huge than the bytes that really came.

/// Looks for the end of one object in bytes that come piece by piece.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// How far it has looked: at the beginning of an object, or behind a head whose content may not have come.
    at: usize,
    /// How many objects must still end.
    open: u64,
}

/// A byte that begins no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoObject;

/// What a head says: the bytes of the head itself and of its content, and the objects that follow inside of it.
struct Head {
    length: usize,
    inside: u64,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { at: 0, open: 1 }
    }
}

impl Scanner {
    /// Looks at `bytes`, which begin with the object and have only grown since the last look: where it ends, if that came.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, NoObject> {
        while self.open > 0 {
            let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) else {
                return Ok(None);
            };
            let Some(head) = head(rest)? else { return Ok(None) };
            self.at = self.at.saturating_add(head.length);
            self.open = (self.open - 1).saturating_add(head.inside);
        }
        Ok((self.at <= bytes.len()).then_some(self.at))
    }
}

/// Reads a head; `None` while it has not come as a whole.
fn head(bytes: &[u8]) -> Result<Option<Head>, NoObject> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let plain = |content: usize| Some(Head { length: 1 + content, inside: 0 });
    // A number of `size` bytes that tells a length or a count.
    let number = |size: usize| -> Option<u64> {
        let bytes = rest.get(..size)?;
        Some(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    let content = |size: usize, more: usize| {
        let length = usize::try_from(number(size)?).unwrap_or(usize::MAX);
        Some(Head { length: length.saturating_add(1 + size + more), inside: 0 })
    };
    let objects = |size: usize, each: u64| {
        Some(Head { length: 1 + size, inside: number(size)?.saturating_mul(each) })
    };
    Ok(match first {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => plain(0),
        0x80..=0x8f => Some(Head { length: 1, inside: u64::from(first & 0x0f) * 2 }),
        0x90..=0x9f => Some(Head { length: 1, inside: u64::from(first & 0x0f) }),
        0xa0..=0xbf => plain(usize::from(first & 0x1f)),
        0xc4 | 0xd9 => content(1, 0),
        0xc5 | 0xda => content(2, 0),
        0xc6 | 0xdb => content(4, 0),
        0xc7 => content(1, 1),
        0xc8 => content(2, 1),
        0xc9 => content(4, 1),
        0xcc | 0xd0 => plain(1),
        0xcd | 0xd1 => plain(2),
        0xca | 0xce | 0xd2 => plain(4),
        0xcb | 0xcf | 0xd3 => plain(8),
        0xd4..=0xd8 => plain(1 + (1 << (first - 0xd4))),
        0xdc => objects(2, 1),
        0xdd => objects(4, 1),
        0xde => objects(2, 2),
        0xdf => objects(4, 2),
        0xc1 => return Err(NoObject),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Objects of every kind, with their encoding by the library.
    fn objects() -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> =
            [0_i64, 1, -1, 127, 128, -33, 70_000, -70_000, i64::MAX, i64::MIN]
                .iter()
                .map(|number| rmp_serde::to_vec(number).expect("a number"))
                .collect();
        for length in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            all.push(rmp_serde::to_vec(&"x".repeat(length)).expect("a text"));
            all.push(rmp_serde::to_vec(&vec![7_u16; length]).expect("a list"));
            let map: BTreeMap<usize, Option<bool>> =
                (0..length).map(|key| (key, (key % 3 > 0).then_some(key % 2 > 0))).collect();
            all.push(rmp_serde::to_vec(&map).expect("a map"));
        }
        all.push(rmp_serde::to_vec(&(1.5_f32, 2.5_f64, [[[()]; 2]; 3])).expect("a tuple"));
        for (head, content) in [(0xc4, 1), (0xc7, 2), (0xd4, 2), (0xd5, 3), (0xd6, 5), (0xd8, 17)] {
            let mut bytes = vec![head];
            if head < 0xd0 {
                bytes.push(1);
            }
            bytes.extend(vec![0_u8; content]);
            all.push(bytes);
        }
        all
    }

    #[test]
    fn the_end_of_an_object_is_found_however_its_bytes_come() {
        for object in objects() {
            let mut more = object.clone();
            more.extend([0x81, 0xc1]);
            assert_eq!(Scanner::default().end(&more), Ok(Some(object.len())), "at once");
            let mut scanner = Scanner::default();
            let step = (object.len() / 50).max(1);
            for came in (0..object.len()).step_by(step) {
                assert_eq!(scanner.end(&object[..came]), Ok(None), "{came} of {}", object.len());
            }
            assert_eq!(scanner.end(&more), Ok(Some(object.len())), "piece by piece");
        }
    }

    #[test]
    fn what_is_no_object_is_told_and_a_giant_costs_nothing() {
        assert_eq!(Scanner::default().end(&[0x92, 0x01, 0xc1]), Err(NoObject));
        // A map of 2^32-1 pairs, a text of as many bytes, lists within lists within lists.
        assert_eq!(Scanner::default().end(&[0xdf, 0xff, 0xff, 0xff, 0xff]), Ok(None));
        assert_eq!(Scanner::default().end(&[0xdb, 0xff, 0xff, 0xff, 0xff, 0x41]), Ok(None));
        assert_eq!(Scanner::default().end(&vec![0x9f; 1 << 20]), Ok(None));
    }
}
