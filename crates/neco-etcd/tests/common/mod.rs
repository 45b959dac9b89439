//! Shared by the tests against real servers.
#![allow(dead_code, reason = "each test program uses its part")]

use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use neco_etcd::MemberConfig;
use tokio::time::{Instant, sleep, timeout};

/// The bound of every wait: far more than anything takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A member whose data nobody needs.
pub(crate) fn member(name: &str) -> MemberConfig {
    MemberConfig::new(name).fsync(false)
}

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn connect(endpoints: &[String]) -> Client {
    let options =
        ConnectOptions::new().with_keep_alive(Duration::from_secs(2), Duration::from_secs(2));
    within("connect", Client::connect(endpoints, Some(options))).await.unwrap()
}

pub(crate) async fn put(endpoint: &str, key: &str, value: &str) {
    let mut client = connect(&[endpoint.to_owned()]).await;
    let put = async { while elects(client.put(key, value, None).await).await.is_none() {} };
    within("put", put).await;
}

pub(crate) async fn get(endpoint: &str, key: &str) -> Option<String> {
    let mut client = connect(&[endpoint.to_owned()]).await;
    let get = async {
        loop {
            if let Some(answer) = elects(client.get(key, None).await).await {
                break answer;
            }
        }
    };
    let answer = within("get", get).await;
    answer.kvs().first().map(|kv| kv.value_str().unwrap().to_owned())
}

/// The answer, or nothing while the cluster elects another leader or a member comes back.
async fn elects<T>(answer: Result<T, etcd_client::Error>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(etcd_client::Error::GRpcStatus(status))
            if ["Unavailable", "Cancelled", "Unknown"]
                .contains(&&*format!("{:?}", status.code())) =>
        {
            sleep(Duration::from_millis(50)).await;
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn process_exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
