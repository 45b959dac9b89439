//! What a component file can say beside files and a unit, as steps do it.

use std::path::Path;

use neco_runtime::{Call, ImageRef};
use neco_schema::{Condition, Lrn};

use crate::cluster::{Cluster, Server, edit};

const AGENT: &str = "agent.service";
const HELPER: &str = "helper.service";
const IMAGE: &str = "registry.test/agent:1";

/// A package with two components that belong together: they are stopped in one step and applied in another.
fn with_agent(folder: &Path) {
    let add = |file: &str, text: &str| {
        let path = folder.join(file);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, format!("{before}{text}")).unwrap();
    };
    add(
        "artifacts.toml",
        "\n[[image]]\nname = \"agent\"\nrepository = \"registry.test/agent\"\ntag = \"1\"\nprivate = true\n\
         [[deb]]\nname = \"agent\"\nowner = \"o\"\nrepository = \"agent\"\nrelease = \"v1\"\n",
    );
    add(
        "components/agent.toml",
        r#"format = 1
name = "agent"
image = "agent"
package = "agent"
restart = "reload"
watch = ["/usr/bin/agent"]
[install-tools]
command = ["/install-tools"]
bind = "/host"
[[file]]
path = "/etc/agent/own.conf"
template = "agent.conf.j2"
create-only = true
[[drop-in]]
unit = "agent.service"
name = "10-limits.conf"
template = "agent.conf.j2"
[unit]
template = "agent.service.j2"
needs = ["/etc/agent/key"]
[ready]
unit = "active"
within = "30s"
"#,
    );
    add(
        "components/helper.toml",
        "format = 1\nname = \"helper\"\n[unit]\ntemplate = \"helper.service.j2\"\n",
    );
    add("templates/agent.conf.j2", "# {{ lrn }}\n");
    let install = "[Install]\nWantedBy=multi-user.target\n";
    add(
        "templates/agent.service.j2",
        &format!("[Service]\nExecStart=/run {{{{ image }}}}\nExecReload=/bin/true\n{install}"),
    );
    add("templates/helper.service.j2", &format!("[Service]\nExecStart=/bin/helper\n{install}"));
    let part = |component: &str, phase: &str| {
        format!("[[step.part]]\ncomponent = \"{component}\"\nphase = \"{phase}\"\n")
    };
    let (stop, apply) = ("[[step]]\nname = \"stop-agent\"\n", "[[step]]\nname = \"agent\"\n");
    let steps = [
        stop.to_owned(),
        part("helper", "stop"),
        part("agent", "stop"),
        apply.to_owned(),
        part("helper", "apply"),
        part("agent", "apply"),
        "[[group]]\nname = \"agent\"\nstop = \"stop-agent\"\napply = \"agent\"\n".to_owned(),
    ];
    add("recipe.toml", &format!("\n{}", steps.concat()));
}

fn give_key(server: &Server) {
    let key = server.path("/etc/agent/key");
    std::fs::create_dir_all(key.parent().unwrap()).unwrap();
    std::fs::write(key, "x").unwrap();
}

/// Boot servers that run both.
async fn running(count: u32) -> Cluster {
    let mut cluster = Cluster::with(count, with_agent).await;
    cluster.servers.iter().for_each(give_key);
    cluster.update().await;
    for server in &cluster.servers {
        assert!(server.is_active(AGENT).await && server.is_active(HELPER).await);
    }
    cluster.take_order("");
    cluster
}

fn runs_of(server: &Server, image: &str) -> usize {
    let image: ImageRef = image.parse().unwrap();
    let calls = server.containers().calls().unwrap();
    calls
        .iter()
        .filter(|call| matches!(&call.effect, Call::Run { spec } if spec.image == image))
        .count()
}

fn read(server: &Server, path: &str) -> Option<String> {
    std::fs::read_to_string(server.path(path)).ok()
}

const TOOLS: &str = "/var/lib/neco/installed/tools/agent";
const PACKAGE: &str = "/var/lib/neco/installed/packages/agent";

#[tokio::test(start_paused = true)]
async fn client_programs_and_packages_are_installed_once_and_noted() {
    let mut cluster = running(1).await;
    let server = cluster.server(0);
    assert_eq!(runs_of(server, IMAGE), 1);
    let calls = server.containers().calls().unwrap();
    let spec = calls.iter().find_map(|call| match &call.effect {
        Call::Run { spec } if spec.image.as_str() == IMAGE => Some(spec),
        _ => None,
    });
    let spec = spec.expect("it ran");
    assert_eq!(spec.command, ["/install-tools"]);
    assert_eq!(spec.mounts[0].source, server.path("/usr/local/bin/.neco-agent"));
    assert!(!server.path("/usr/local/bin/.neco-agent").exists(), "it was for the time being");
    assert_eq!(spec.mounts[0].target, Path::new("/host"));
    assert_eq!(read(server, TOOLS).as_deref(), Some(IMAGE));
    assert_eq!(read(server, PACKAGE).as_deref(), Some("v1"));
    cluster.update().await;
    assert_eq!(runs_of(cluster.server(0), IMAGE), 1, "nothing changed");
    cluster
        .upgrade("2026.11.21-1", |folder| {
            edit(folder, "artifacts.toml", "release = \"v1\"", "release = \"v2\"");
        })
        .await;
    cluster.update().await;
    assert_eq!(read(cluster.server(0), PACKAGE).as_deref(), Some("v2"));
    assert_eq!(runs_of(cluster.server(0), IMAGE), 1, "the image did not change");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_failed_to_be_installed_is_not_noted_and_is_tried_again() {
    let mut cluster = Cluster::with(2, with_agent).await;
    let run = format!("run {IMAGE}");
    cluster.server(1).containers().faults().fail(&run, "no room").unwrap();
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    let status = cluster.status(0).expect("a status");
    assert!(status.message.contains(IMAGE), "{}", status.message);
    let origin = status.origin.expect("who gave up first, and where");
    assert_eq!(origin.step, cluster.step("stop-agent"), "before anything was stopped");
    assert_eq!(read(cluster.server(1), TOOLS), None);
    cluster.server(1).containers().faults().clear(&run).unwrap();
    cluster.update().await;
    assert_eq!(read(cluster.server(1), TOOLS).as_deref(), Some(IMAGE));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn the_components_of_a_group_go_down_together_and_come_back_in_their_order() {
    let mut cluster = running(3).await;
    cluster
        .upgrade("2026.11.21-1", |folder| {
            edit(folder, "templates/helper.service.j2", "/bin/helper", "/bin/helper --new");
        })
        .await;
    cluster.update().await;
    let order = cluster.take_order("");
    for lrn in 0..3 {
        let of_server = format!("{lrn}: ");
        let own: Vec<&str> = order
            .iter()
            .filter_map(|line| line.strip_prefix(&of_server))
            .filter(|line| line.starts_with("stop ") || line.starts_with("start "))
            .filter(|line| line.ends_with(AGENT) || line.ends_with(HELPER))
            .collect();
        assert_eq!(
            own,
            [
                "stop agent.service",
                "stop helper.service",
                "start helper.service",
                "start agent.service"
            ],
            "{order:?}"
        );
    }
    let last_stop = order.iter().rposition(|line| line.contains(": stop ")).expect("stops");
    let first = order.iter().position(|line| line.contains(": start helper")).expect("starts");
    assert!(last_stop < first, "{order:?}");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_second_component_does_not_start_is_restored_as_a_whole() {
    let mut cluster = running(2).await;
    cluster
        .upgrade("2026.11.21-1", |folder| {
            edit(folder, "templates/helper.service.j2", "/bin/helper", "/bin/helper --new");
        })
        .await;
    cluster.server(0).units().faults().fail("stop agent.service", "it clings").unwrap();
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    cluster.server(0).units().faults().clear("stop agent.service").unwrap();
    cluster
        .until("all run as before", async || {
            let mut all = true;
            for server in &cluster.servers {
                all &= server.is_active(AGENT).await && server.is_active(HELPER).await;
                all &= server.is_enabled(AGENT).await && server.is_enabled(HELPER).await;
            }
            all
        })
        .await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_waits_enabled_until_what_it_needs_is_there() {
    let mut cluster = Cluster::with(1, with_agent).await;
    cluster.update().await;
    let server = cluster.server(0);
    assert!(server.is_enabled(AGENT).await && !server.is_active(AGENT).await);
    let before = server.effects().len();
    cluster.update().await;
    assert_eq!(cluster.server(0).effects().len(), before, "nothing is done again and again");
    give_key(cluster.server(0));
    cluster.update().await;
    assert!(cluster.server(0).is_active(AGENT).await);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_is_reloaded_when_a_file_that_it_watches_changes() {
    let mut cluster = running(1).await;
    let program = cluster.server(0).path("/usr/bin/agent");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, "another").unwrap();
    cluster.take_order("");
    let request = cluster.request().await;
    cluster.completed(&request).await;
    // As a member of a group it is stopped before, so it is started and not reloaded.
    let order = cluster.take_order(AGENT);
    assert!(order.iter().any(|line| line == "0: start agent.service"), "{order:?}");
    cluster.update().await;
    assert_eq!(cluster.take_order(AGENT), Vec::<String>::new(), "once is enough");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_login_runs_the_private_variant_and_no_other_does() {
    let mut cluster = Cluster::with(2, with_agent).await;
    let logins = cluster.server(1).path("/root/.docker/config.json");
    std::fs::create_dir_all(logins.parent().unwrap()).unwrap();
    std::fs::write(&logins, r#"{"auths":{"registry.test":{"auth":"dTpw"}}}"#).unwrap();
    cluster.servers.iter().for_each(give_key);
    cluster.update().await;
    let unit = |lrn| read(cluster.server(lrn), "/etc/systemd/system/agent.service").unwrap();
    assert!(unit(0).contains("/run registry.test/agent:1"), "{}", unit(0));
    assert!(unit(1).contains("/run registry.test/agent-secret:1"), "{}", unit(1));
    assert_eq!(runs_of(cluster.server(0), IMAGE), 1);
    assert_eq!(runs_of(cluster.server(1), "registry.test/agent-secret:1"), 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_site_is_left_as_it_is() {
    let mut cluster = Cluster::with(1, with_agent).await;
    give_key(cluster.server(0));
    std::fs::write(cluster.server(0).path("/etc/agent/own.conf"), "the site's own").unwrap();
    cluster.update().await;
    assert_eq!(read(cluster.server(0), "/etc/agent/own.conf").as_deref(), Some("the site's own"));
    std::fs::remove_file(cluster.server(0).path("/etc/agent/own.conf")).unwrap();
    cluster.update().await;
    assert_eq!(read(cluster.server(0), "/etc/agent/own.conf").as_deref(), Some("# 0\n"));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_of_a_package_that_says_nothing_about_boot_is_started_and_asks_for_no_more() {
    const UNIT: &str = "node-exporter.service";
    let mut cluster = Cluster::of(1).await;
    let server = cluster.server(0);
    for (path, text) in [
        ("/usr/lib/systemd/system/node-exporter.service", "[Service]\nExecStart=/bin/true\n"),
        ("/usr/sbin/node_exporter", "a program"),
    ] {
        let path = server.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    cluster.update().await;
    assert_eq!(cluster.take_order(UNIT), [format!("0: start {UNIT}")]);
    cluster.update().await;
    assert_eq!(cluster.take_order(UNIT), Vec::<String>::new());
    let plan = cluster.view().plans[&Lrn::new(0)].value.clone();
    assert_eq!(plan.changes, Vec::<String>::new(), "nothing is to be changed");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_everybody_may_read_is_kept_from_others_and_holds_what_it_held() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut cluster = Cluster::with(1, |folder| {
        with_agent(folder);
        let secret = "[[secret]]\npath = \"/etc/agent/key\"\n[unit]";
        edit(folder, "components/agent.toml", "[unit]", secret);
    })
    .await;
    let mode = |cluster: &Cluster| {
        let found = std::fs::metadata(cluster.server(0).path("/etc/agent/key")).unwrap();
        found.permissions().mode() & 0o7777
    };
    cluster.update().await;
    assert!(!cluster.server(0).path("/etc/agent/key").exists(), "nobody makes one");
    give_key(cluster.server(0));
    cluster.update().await;
    assert_eq!(mode(&cluster), 0o600);
    assert_eq!(read(cluster.server(0), "/etc/agent/key").as_deref(), Some("x"));
    assert_eq!(cluster.server(0).begun("give /etc/agent/key its owner and mode"), 1);
    let starts = cluster.server(0).count("start agent.service");
    let key = cluster.server(0).path("/etc/agent/key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
    cluster.update().await;
    assert_eq!(mode(&cluster), 0o600);
    assert_eq!(cluster.server(0).count("start agent.service"), starts, "nothing restarts for it");
    cluster.update().await;
    assert_eq!(cluster.server(0).begun("give /etc/agent/key its owner and mode"), 2);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_in_the_place_of_a_key_is_left_to_whoever_made_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut cluster = Cluster::with(1, |folder| {
        let secret = "[[secret]]\npath = \"/etc/serf/key\"\n\n[unit]";
        edit(folder, "components/serf.toml", "[unit]", secret);
    })
    .await;
    let server = cluster.server(0);
    let (key, elsewhere) = (server.path("/etc/serf/key"), server.path("/etc/serf/elsewhere"));
    std::fs::create_dir_all(key.parent().unwrap()).unwrap();
    std::fs::write(&elsewhere, "x").unwrap();
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink("elsewhere", &key).unwrap();
    for _ in 0..2 {
        cluster.update().await;
        assert!(key.is_symlink());
        let mode = std::fs::metadata(&elsewhere).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
    }
    assert_eq!(cluster.server(0).begun("give /etc/serf/key its owner and mode"), 0);
    cluster.verdict().await;
}
