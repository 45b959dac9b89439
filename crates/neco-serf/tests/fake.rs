//! The client against the stand-in: the contract, and what goes wrong.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use async_trait::async_trait;
use neco_schema::Severity;
use neco_serf::contract::{self, Bench};
use neco_serf::{FakeSerf, Fault, Options, Serf as _, SerfClient, SerfError, Status};

/// A stand-in, or what it was while it is stopped.
struct Stand {
    fake: Option<FakeSerf>,
    rpc: String,
}

impl Stand {
    async fn new() -> Self {
        let fake = FakeSerf::start("boot-0").await.expect("a port");
        Self { rpc: fake.address().to_string(), fake: Some(fake) }
    }

    fn fake(&self) -> &FakeSerf {
        self.fake.as_ref().expect("it runs")
    }
}

#[async_trait]
impl Bench for Stand {
    fn rpc(&self) -> String {
        self.rpc.clone()
    }

    fn name(&self) -> String {
        "boot-0".to_owned()
    }

    fn address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    async fn require(&mut self, auth_key: &str) {
        self.fake().require(Some(auth_key));
    }

    async fn join(&mut self, name: &str, tags: &[(&str, &str)]) {
        self.fake().set(name, Ipv4Addr::new(127, 0, 0, 9).into(), Status::Alive, tags);
    }

    async fn leave(&mut self, name: &str) {
        self.fake().set_status(name, Status::Left);
    }

    async fn fail(&mut self, name: &str) {
        self.fake().set_status(name, Status::Failed);
    }

    async fn stop(&mut self) {
        let fake = self.fake.take().expect("it runs");
        fake.stop().await;
    }

    async fn start(&mut self) {
        let address = self.rpc.parse().expect("an address");
        self.fake = Some(FakeSerf::start_on(address, "boot-0").await.expect("its own port"));
    }
}

#[tokio::test]
async fn the_stand_in_keeps_the_contract() {
    contract::holds(Stand::new().await).await;
}

fn client(fake: &FakeSerf) -> SerfClient {
    SerfClient::new(Options::new(fake.address().to_string()))
}

#[tokio::test]
async fn an_answer_that_breaks_off_anywhere_is_an_error_and_no_part_of_it_is_believed() {
    let fake = FakeSerf::start("boot-0").await.expect("a port");
    for index in 1..40 {
        let address = Ipv4Addr::new(10, 69, 0, index).into();
        fake.set(&format!("node-{index}"), address, Status::Alive, &[("serial", "a")]);
    }
    let whole = client(&fake).members().await.expect("members").len();
    assert_eq!(whole, 40);
    let mut after = 0;
    loop {
        fake.set_fault(Some(Fault::CutAfter(after)));
        match client(&fake).members().await {
            Ok(members) => {
                assert_eq!(members.len(), whole);
                break;
            }
            Err(error) => {
                assert!(matches!(error, SerfError::Cut { .. }), "after {after}: {error}");
                assert_eq!(error.severity(), Severity::TryAgain);
            }
        }
        after += 37;
    }
    assert!(after > 1000, "{after} bytes are no answer of 40 members");
}

#[tokio::test]
async fn an_agent_that_goes_away_while_it_is_asked_is_asked_again_later() {
    let fake = FakeSerf::start("boot-0").await.expect("a port");
    // With what it was asked unread, so that the connection is reset.
    fake.set_fault(Some(Fault::Stall));
    let asked = tokio::spawn({
        let client = client(&fake);
        async move { client.members().await }
    });
    let came = async {
        while fake.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), came).await.expect("a connection");
    fake.stop().await;
    let error = asked.await.expect("no panic").expect_err("it went away");
    assert!(matches!(error, SerfError::Cut { .. }), "{error:?}");
    assert_eq!(error.severity(), Severity::TryAgain);
}

#[tokio::test]
async fn silence_ends_and_strangers_are_told() {
    let fake = FakeSerf::start("boot-0").await.expect("a port");
    let mut options = Options::new(fake.address().to_string());
    options.within = Duration::from_millis(200);
    fake.set_fault(Some(Fault::Stall));
    let error = SerfClient::new(options).members().await.expect_err("silence");
    assert!(matches!(error, SerfError::TimedOut { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);

    for (words, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak"),
        (&[0xc1], "no MessagePack"),
        (
            &[0x82, 0xa3, b'S', b'e', b'q', 0x07, 0xa5, b'E', b'r', b'r', b'o', b'r', 0xa0],
            "answers 7",
        ),
    ] {
        fake.set_fault(Some(Fault::Says(words.to_vec())));
        let error = client(&fake).members().await.expect_err("no agent");
        assert!(matches!(error, SerfError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }

    // A text of 4 GiB that has begun.
    let mut options = Options::new(fake.address().to_string());
    options.largest = 1 << 16;
    let mut giant = vec![0xdb, 0xff, 0xff, 0xff, 0xff];
    giant.extend(vec![b'x'; 1 << 17]);
    fake.set_fault(Some(Fault::Says(giant)));
    let error = SerfClient::new(options).members().await.expect_err("a giant");
    assert!(matches!(error, SerfError::TooLarge { limit: 65_536, .. }), "{error}");

    fake.set_fault(Some(Fault::Refuse("Unsupported\ncommand".to_owned())));
    let error = client(&fake).members().await.expect_err("refused");
    assert!(error.to_string().ends_with("refuses members: Unsupported command"), "{error}");
}
