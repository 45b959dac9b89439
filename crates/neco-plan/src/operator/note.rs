//! The book of orders: who ordered what, when and why. What an order deletes cannot say so itself.

use neco_schema::{Compare, Key, Op, OrderNote, Txn};

use super::Order;
use crate::View;

/// How many orders are kept.
const KEPT: usize = 200;
/// How many are tidied away at once, so that a transaction stays within what etcd accepts.
const TIDIED_AT_ONCE: usize = 20;

/// `txn` with a note about it: `what` was ordered, in the words of the command line.
pub fn noted(view: &View, order: &Order, what: impl Into<String>, txn: Txn) -> Txn {
    // Later than the last one, also when this operator's clock is behind: the book is in order.
    let at = view.orders.last().map_or(order.now, |last| order.now.max(last.next()));
    let key = Key::Order(at);
    let note = OrderNote {
        order: what.into(),
        by: order.by.clone(),
        reason: order.reason.clone(),
        unknown: serde_json::Map::new(),
    };
    let mut txn = txn.when(Compare::absent(&key)).then(Op::put(&key, &note));
    let surplus = (view.orders.len() + 1).saturating_sub(KEPT).min(TIDIED_AT_ONCE);
    txn.ops.extend(view.orders.iter().take(surplus).map(|at| Op::delete(&Key::Order(*at))));
    txn
}

/// The words of a command, with the flags that were given.
pub(super) fn command(words: String, flags: &[(bool, &str)]) -> String {
    flags.iter().filter(|(given, _)| *given).fold(words, |words, (_, flag)| words + " " + flag)
}

#[cfg(test)]
mod tests {
    use neco_schema::Timestamp;

    use super::*;

    fn order(second: i64) -> Order {
        let now = Timestamp::from_unix(second);
        Order { by: "ops".into(), reason: "because".into(), now }
    }

    fn view(seconds: std::ops::Range<i64>) -> View {
        View { orders: seconds.map(Timestamp::from_unix).collect(), ..View::default() }
    }

    fn put(txn: &Txn) -> &str {
        let mut puts = txn.ops.iter().filter_map(|op| match op {
            Op::Put { key, .. } => Some(key.as_str()),
            Op::Delete(_) => None,
        });
        puts.next_back().expect("a note")
    }

    #[test]
    fn notes_stand_in_the_order_of_their_transactions_whatever_the_clocks_say() {
        let ahead = noted(&view(1..5), &order(9), "pause", Txn::default());
        assert_eq!(put(&ahead), Key::Order(Timestamp::from_unix(9)).to_string());
        for second in [1, 4] {
            let behind = noted(&view(1..5), &order(second), "pause", Txn::default());
            assert_eq!(put(&behind), Key::Order(Timestamp::from_unix(4).next()).to_string());
        }
    }

    #[test]
    fn the_oldest_notes_go_a_few_at_a_time() {
        let deleted = |kept: i64| {
            let txn = noted(&view(0..kept), &order(1000), "pause", Txn::default());
            txn.ops.iter().filter(|op| matches!(op, Op::Delete(_))).cloned().collect::<Vec<_>>()
        };
        assert_eq!(deleted(199), []);
        assert_eq!(deleted(200), [Op::delete(&Key::Order(Timestamp::from_unix(0)))]);
        assert_eq!(deleted(500).len(), TIDIED_AT_ONCE);
    }

    #[test]
    fn flags_stand_behind_the_words_if_they_were_given() {
        let words = command("recover".into(), &[(false, "--force"), (true, "--retry")]);
        assert_eq!(words, "recover --retry");
    }
}
