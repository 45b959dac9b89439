//! Lists of tags, which come page by page.

mod common;

use common::Site;
use neco_registry::testing::{Fault, Kind, Scope, TestImage};
use neco_registry::{Options, Registries, RegistryError};
use neco_schema::Severity;

async fn many() -> Site {
    let site = Site::new().await;
    for number in 2..=7 {
        let image = TestImage::new(Kind::Oci, vec![]);
        site.registry.push(common::PATH, &number.to_string(), &image);
    }
    site
}

#[tokio::test]
async fn pages_are_followed_to_the_last() {
    let site = many().await;
    let repository = site.name().repository().clone();
    for (tags_per_page, pages) in [(1, 7), (3, 3), (7, 1), (1000, 1)] {
        let client =
            Registries::new(Options { tags_per_page, ..site.options() }).expect("settings");
        site.registry.faults().take_asked();
        let tags = client.tags(&repository).await.expect("tags");
        assert_eq!(tags, ["1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(site.registry.faults().take_asked().len(), pages, "{tags_per_page} at once");
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let site = many().await;
    let options = Options { tags_per_page: 1, max_pages: 3, ..site.options() };
    let client = Registries::new(options).expect("settings");
    let error = client.tags(site.name().repository()).await.expect_err("too many");
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    assert_eq!(site.registry.faults().take_asked().len(), 3);
}

#[tokio::test]
async fn a_next_page_on_another_host_is_not_asked_for() {
    let site = many().await;
    let elsewhere = Site::new().await;
    for next in
        [format!("http://{}/v2/a/tags/list", elsewhere.registry.host()), "http://[".to_owned()]
    {
        let link = Fault::Link(format!("<{next}>; rel=\"next\""));
        site.registry.faults().next(Scope::Tags, 1, link);
        let error = site.client().tags(site.name().repository()).await.expect_err("elsewhere");
        assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    }
    assert!(elsewhere.registry.faults().take_asked().is_empty());
    let itself = "</v2/cybozu/etcd/tags/list?n=1000>; rel=\"next\"";
    site.registry.faults().always(Scope::Tags, Fault::Link(itself.to_owned()));
    let error = site.client().tags(site.name().repository()).await.expect_err("in a circle");
    assert!(error.to_string().contains("same page"), "{error}");
}
