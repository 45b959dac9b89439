//! What a template may ask about the server it is rendered for.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use neco_artifacts::Image;
use neco_schema::{Lrn, NecoVersion};
use neco_toml::Name;
use serde::Serialize;

/// What a template may ask about the server it is rendered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The version that the request asks for.
    pub version: NecoVersion,
    /// The cluster's name.
    pub cluster: String,
    /// This server.
    pub lrn: Lrn,
    /// The address of this server.
    pub node0: Ipv4Addr,
    /// All servers of the request, this one among them.
    pub servers: Vec<ServerFacts>,
    /// The operating system, as `NAME` in `/etc/os-release`.
    pub os_name: String,
    /// Its version, as `VERSION_ID` in `/etc/os-release`.
    pub os_version: String,
    /// The serial number of the machine.
    pub serial: String,
    /// The images of which this server runs the private variant, because it can log in where that lies.
    pub variants: BTreeSet<Name>,
}

/// A boot server, as a template sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ServerFacts {
    /// Which.
    pub lrn: Lrn,
    /// Its address.
    pub node0: Ipv4Addr,
}

/// The variables of a template.
#[derive(Debug, Serialize)]
pub(crate) struct Context<'a> {
    cluster: &'a str,
    component: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    lrn: Lrn,
    node0: Ipv4Addr,
    os_name: &'a str,
    os_version: &'a str,
    others: Vec<ServerFacts>,
    serial: &'a str,
    servers: Vec<ServerFacts>,
    version: &'a NecoVersion,
}

impl Facts {
    /// The variables that every template can use, sorted. `image` is there only where the component has one.
    pub const VARIABLES: [&str; 11] = [
        "cluster",
        "component",
        "image",
        "lrn",
        "node0",
        "os_name",
        "os_version",
        "others",
        "serial",
        "servers",
        "version",
    ];

    /// Facts of no server in particular, to try templates with.
    pub(crate) fn rehearsal() -> Option<Self> {
        let server = |lrn: u8| ServerFacts {
            lrn: Lrn::new(u32::from(lrn)),
            node0: Ipv4Addr::new(192, 0, 2, lrn),
        };
        Some(Self {
            version: "2021.04.19-13965".parse().ok()?,
            cluster: "rehearsal".to_owned(),
            lrn: Lrn::new(0),
            node0: server(0).node0,
            servers: vec![server(0), server(1), server(2)],
            os_name: "Ubuntu".to_owned(),
            os_version: "22.04".to_owned(),
            serial: "rehearsal".to_owned(),
            variants: BTreeSet::new(),
        })
    }

    /// The full name of an image as this server runs it.
    pub fn reference(&self, image: &Image) -> String {
        if self.variants.contains(&image.name) {
            image.private_reference()
        } else {
            image.reference()
        }
    }

    /// The variables of a template of `component`: servers ascend whatever their order here.
    pub(crate) fn context<'a>(&'a self, component: &'a str, image: Option<String>) -> Context<'a> {
        let mut servers = self.servers.clone();
        servers.sort_unstable();
        servers.dedup();
        let others = servers.iter().copied().filter(|server| server.lrn != self.lrn).collect();
        Context {
            cluster: &self.cluster,
            component,
            image,
            lrn: self.lrn,
            node0: self.node0,
            os_name: &self.os_name,
            os_version: &self.os_version,
            others,
            serial: &self.serial,
            servers,
            version: &self.version,
        }
    }
}
