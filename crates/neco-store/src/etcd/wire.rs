//! Our vocabulary in the client library's, with the prefix put on and taken off.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, DeleteOptions, PutOptions, ResponseHeader, TxnOp};
use neco_schema::{CompareTarget, KeyValue, LeaseId, Op, Range, Revision, Txn};

/// The keys below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Space {
    prefix: String,
}

/// A range as etcd takes it: one key, or all from `start` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Vec<u8>,
    pub(super) end: Option<Vec<u8>>,
}

impl Span {
    fn below(prefix: &str) -> Self {
        if prefix.is_empty() {
            // etcd's way of saying "everything".
            return Self { start: vec![0], end: Some(vec![0]) };
        }
        let mut end = prefix.as_bytes().to_vec();
        // No byte of UTF-8 text is 0xff.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self { start: prefix.as_bytes().to_vec(), end: Some(end) }
    }

    /// What comes after `key`.
    pub(super) fn after(&self, key: &[u8]) -> Self {
        let mut start = key.to_vec();
        start.push(0);
        Self { start, end: self.end.clone() }
    }
}

impl Space {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn full(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    pub(super) fn span(&self, range: &Range) -> Span {
        match range {
            Range::Key(key) => Span { start: self.full(key), end: None },
            Range::Prefix(text) | Range::KeysOnly(text) => {
                Span::below(&format!("{}{text}", self.prefix))
            }
        }
    }

    /// The smallest span that holds all ranges.
    pub(super) fn span_of(&self, ranges: &[Range]) -> Span {
        match ranges {
            [one] => self.span(one),
            _ => Span::below(&format!("{}{}", self.prefix, common_prefix(ranges))),
        }
    }

    /// The key relative to the prefix. Keys that are no text cannot be ours; they get a name that
    /// matches nothing.
    pub(super) fn relative(&self, key: &[u8]) -> String {
        let own = key.strip_prefix(self.prefix.as_bytes()).unwrap_or(key);
        String::from_utf8_lossy(own).into_owned()
    }

    pub(super) fn key_value(&self, kv: &etcd_client::KeyValue) -> KeyValue {
        KeyValue {
            key: self.relative(kv.key()),
            value: kv.value().to_vec(),
            create_revision: Revision(kv.create_revision()),
            mod_revision: Revision(kv.mod_revision()),
            version: kv.version(),
            lease: (kv.lease() != 0).then(|| LeaseId(kv.lease())),
        }
    }

    pub(super) fn txn(&self, txn: &Txn) -> etcd_client::Txn {
        let compares: Vec<Compare> =
            txn.compares.iter().map(|compare| self.compare(compare)).collect();
        let ops: Vec<TxnOp> = txn.ops.iter().map(|op| self.op(op)).collect();
        let mut request = etcd_client::Txn::new();
        if !compares.is_empty() {
            request = request.when(compares);
        }
        if !ops.is_empty() {
            request = request.and_then(ops);
        }
        request
    }

    fn compare(&self, compare: &neco_schema::Compare) -> Compare {
        let key = self.full(&compare.key);
        match &compare.target {
            CompareTarget::Absent => Compare::create_revision(key, CompareOp::Equal, 0),
            CompareTarget::Exists => Compare::create_revision(key, CompareOp::Greater, 0),
            CompareTarget::ModRevision(at) => Compare::mod_revision(key, CompareOp::Equal, at.0),
            CompareTarget::CreateRevision(at) => {
                Compare::create_revision(key, CompareOp::Equal, at.0)
            }
            CompareTarget::Value(value) => Compare::value(key, CompareOp::Equal, value.clone()),
        }
    }

    fn op(&self, op: &Op) -> TxnOp {
        match op {
            Op::Put { key, value, lease } => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                TxnOp::put(self.full(key), value.clone(), options)
            }
            Op::Delete(range) => {
                let span = self.span(range);
                let options = span.end.map(|end| DeleteOptions::new().with_range(end));
                TxnOp::delete(span.start, options)
            }
        }
    }
}

/// The longest text that all ranges begin with.
fn common_prefix(ranges: &[Range]) -> &str {
    let mut texts = ranges.iter().map(Range::text);
    let Some(mut common) = texts.next() else { return "" };
    for text in texts {
        let same = common.char_indices().zip(text.chars()).find(|((_, a), b)| a != b);
        let length = same.map_or(common.len().min(text.len()), |((at, _), _)| at);
        common = &common[..length];
    }
    common
}

/// Cluster and revision of an answer.
pub(super) fn head(header: Option<&ResponseHeader>) -> (u64, Revision) {
    header
        .map_or_else(Default::default, |header| (header.cluster_id(), Revision(header.revision())))
}

/// etcd counts whole seconds, at least one.
pub(super) fn whole_seconds(ttl: Duration) -> i64 {
    let up = u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(ttl.as_secs() + up).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_spans_below_the_prefix() {
        let space = Space::new("/neco/");
        let span = |start: &str, end: Option<&str>| Span {
            start: start.into(),
            end: end.map(|end| end.as_bytes().to_vec()),
        };
        assert_eq!(space.span(&Range::Key("a".into())), span("/neco/a", None));
        assert_eq!(space.span(&Range::Prefix("a/".into())), span("/neco/a/", Some("/neco/a0")));
        assert_eq!(space.span(&Range::KeysOnly(String::new())), span("/neco/", Some("/neco0")));
        let everything = Space::new("").span(&Range::Prefix(String::new()));
        assert_eq!(everything, span("\0", Some("\0")));
    }

    #[test]
    fn several_ranges_share_the_span_of_their_common_beginning() {
        let space = Space::new("/");
        let ranges = ["status/", "status/current", "stäte"].map(|text| Range::Prefix(text.into()));
        assert_eq!(space.span_of(&ranges[..2]), space.span(&ranges[0]));
        assert_eq!(space.span_of(&ranges), space.span(&Range::Prefix("st".into())));
        assert_eq!(space.span_of(&[]), space.span(&Range::Prefix(String::new())));
    }
}
