//! One line of a segment: a JSON object that begins with the checksum of its remainder.
//!
//! `{"sum":"9b1c…","seq":7,"at":"2026-11-21T08:00:00Z","entry":{…}}`, LF. The sum is the first 16 hex digits of
//! SHA-256 over every byte after the sum's own comma. Instead of `entry` stands `head` in the first line of a
//! segment and `kept` in the lines of its checkpoint. Lines written at once count down in `more`, so that a batch
//! whose end is missing is known.

use neco_schema::Timestamp;
use neco_schema::journal::Entry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DamageKind;
use neco_base::hex;

const SUM_BEGIN: &[u8] = br#"{"sum":""#;
const SUM_DIGITS: usize = 16;
const SUM_END: &[u8] = br#"","#;

/// What a line holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) body: Body,
}

/// What a line is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    /// The first line of a segment: as many lines of checkpoint follow.
    Head { kept: u64 },
    /// State from before this segment.
    Kept(Entry),
    /// Something that was appended, with as many lines of the same batch to follow.
    Appended { entry: Entry, more: u64 },
}

#[derive(Serialize, Deserialize)]
struct Wire<E> {
    seq: u64,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Head>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<E>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<E>,
    #[serde(default, skip_serializing_if = "is_zero")]
    more: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct Head {
    kept: u64,
}

/// Appends the written form of a line to `text`.
pub(super) fn encode(
    text: &mut Vec<u8>,
    seq: u64,
    at: Timestamp,
    body: &Body,
) -> Result<(), serde_json::Error> {
    let mut wire = Wire { seq, at, head: None, kept: None, entry: None, more: 0 };
    match body {
        Body::Head { kept } => wire.head = Some(Head { kept: *kept }),
        Body::Kept(entry) => wire.kept = Some(entry),
        Body::Appended { entry, more } => {
            wire.entry = Some(entry);
            wire.more = *more;
        }
    }
    let object = serde_json::to_vec(&wire)?;
    // The object without its brace: what the sum is taken over.
    let rest = &object[1..];
    text.extend_from_slice(SUM_BEGIN);
    text.extend_from_slice(sum(rest).as_bytes());
    text.extend_from_slice(SUM_END);
    text.extend_from_slice(rest);
    text.push(b'\n');
    Ok(())
}

/// Reads a line, without its line feed.
pub(super) fn decode(line: &[u8]) -> Result<Line, DamageKind> {
    let rest = line
        .strip_prefix(SUM_BEGIN)
        .and_then(|rest| rest.split_at_checked(SUM_DIGITS))
        .and_then(|(claimed, rest)| {
            let rest = rest.strip_prefix(SUM_END)?;
            (claimed == sum(rest).as_bytes()).then_some(rest)
        })
        .ok_or(DamageKind::Checksum)?;
    // From here the line is what was written; what is not understood was written by a later version.
    let unknown = |error: serde_json::Error| DamageKind::Unknown(error.to_string());
    let mut object = Vec::with_capacity(rest.len() + 1);
    object.push(b'{');
    object.extend_from_slice(rest);
    let wire: Wire<Entry> = serde_json::from_slice(&object).map_err(unknown)?;
    let body = match (wire.head, wire.kept, wire.entry) {
        (Some(head), None, None) => Body::Head { kept: head.kept },
        (None, Some(entry), None) => Body::Kept(entry),
        (None, None, Some(entry)) => Body::Appended { entry, more: wire.more },
        _ => return Err(DamageKind::Unknown("neither head nor kept nor entry".to_owned())),
    };
    Ok(Line { seq: wire.seq, at: wire.at, body })
}

fn sum(rest: &[u8]) -> String {
    hex(&Sha256::digest(rest)[..SUM_DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Vec<u8> {
        let entry = Entry::PlannedExit { why: "an update\nof \"itself\"".to_owned() };
        let mut text = Vec::new();
        let body = Body::Appended { entry, more: 0 };
        encode(&mut text, 7, Timestamp::from_unix(1), &body).expect("plain data");
        text
    }

    #[test]
    fn a_line_is_one_json_object_and_reads_back() {
        let text = line();
        let (end, body) = text.split_last().expect("not empty");
        assert_eq!(*end, b'\n');
        assert!(!body.contains(&b'\n'));
        let value: serde_json::Value = serde_json::from_slice(body).expect("json");
        assert_eq!(value["seq"], 7);
        assert_eq!(value["entry"]["entry"], "planned-exit");
        let read = decode(body).expect("its own form");
        assert_eq!((read.seq, read.at), (7, Timestamp::from_unix(1)));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let text = line();
        let body = &text[..text.len() - 1];
        for at in 0..body.len() {
            for bit in 0..8 {
                let mut bad = body.to_vec();
                bad[at] ^= 1 << bit;
                assert_eq!(decode(&bad), Err(DamageKind::Checksum), "byte {at} bit {bit}");
            }
            assert_eq!(decode(&body[..at]), Err(DamageKind::Checksum), "cut at {at}");
        }
    }

    #[test]
    fn an_entry_of_a_later_version_is_told_apart_from_damage() {
        let rest = br#""seq":1,"at":"2026-11-21T08:00:00Z","entry":{"entry":"later"}}"#;
        let mut text = SUM_BEGIN.to_vec();
        text.extend_from_slice(sum(rest).as_bytes());
        text.extend_from_slice(SUM_END);
        text.extend_from_slice(rest);
        assert!(matches!(decode(&text), Err(DamageKind::Unknown(why)) if why.contains("later")));
    }
}
