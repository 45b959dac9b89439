//! Large values and large transactions.

use crate::common::Etcd;
use neco_schema::{Op, Range, Txn};
use neco_store::{Committed, Severity, Store, StoreError};
use neco_testkit::store::{all, op_put, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_beyond_the_usual_limit_are_read() {
    let etcd = Etcd::start().await;
    let store = etcd.store("/neco/").await;
    let large = vec![b'x'; 300 << 10];
    for n in 0..20 {
        store.commit(&put(&format!("large/{n:02}"), &large)).await.expect("written");
    }
    let small = vec![b'y'; 9 << 10];
    for chunk in (0..1_100).collect::<Vec<_>>().chunks(100) {
        let ops = chunk.iter().map(|n| op_put(&format!("small/{n:04}"), &small)).collect();
        store.commit(&Txn { compares: Vec::new(), ops }).await.expect("written");
    }
    let now = store.read(&[all("large/"), all("small/")], None).await.expect("an answer");
    let bytes: usize = now.kvs.values().map(|kv| kv.value.len()).sum();
    assert_eq!((now.kvs.len(), bytes), (1_120, 20 * large.len() + 1_100 * small.len()));
    let bare = store.read(&[Range::KeysOnly("small/".into())], None).await.expect("an answer");
    assert!(bare.kvs.len() == 1_100 && bare.kvs.values().all(|kv| kv.value.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_with_its_size() {
    let etcd = Etcd::start().await;
    let store = etcd.store("/neco/").await;
    // etcd refuses the first itself; the second does not even get through its transport.
    for mebibytes in [1.6, 5.0] {
        let value = vec![b'x'; (mebibytes * 1024.0 * 1024.0) as usize];
        let error = store.commit(&put("a", &value)).await.expect_err("too large");
        let expected = value.len() + 1;
        assert!(matches!(error, StoreError::TooLarge { bytes } if bytes == expected), "{error:?}");
        assert_eq!(error.severity(), Severity::Bug);
        assert!(error.to_string().contains(&expected.to_string()), "{error}");
    }
    let deletions = (0..600).map(|n| Op::Delete(Range::Key(format!("{n}")))).collect();
    let many = Txn { compares: Vec::new(), ops: deletions };
    let error = store.commit(&many).await.expect_err("too many");
    assert!(matches!(error, StoreError::TooManyOperations { operations: 600 }), "{error:?}");
    assert!(matches!(store.commit(&put("a", "1")).await, Ok(Committed::Done(_))));
}
