//! The schema as a table, from which `docs/etcd.md` is generated.

use crate::Key;

/// What one key, or one family of keys, is for.
#[derive(Clone, Copy, Debug)]
pub struct KeyDoc {
    /// The key relative to the prefix, with `<…>` for what varies.
    pub pattern: &'static str,
    /// A key of this family.
    pub example: &'static str,
    /// Whether the original knows it.
    pub original: bool,
    /// The form of the value.
    pub value: &'static str,
    /// Who writes it.
    pub writers: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

macro_rules! schema {
    ($($origin:ident $pattern:literal $example:literal $value:literal $writers:literal $meaning:literal)*) => {
        /// Every key of Neco, in the order of the documentation.
        pub const SCHEMA: &[KeyDoc] = &[$(KeyDoc {
            pattern: $pattern,
            example: $example,
            original: schema!(@ $origin),
            value: $value,
            writers: $writers,
            meaning: $meaning,
        }),*];
    };
    (@ original) => { true };
    (@ ours) => { false };
}

schema! {
    original "status/current" "status/current"
        "request: `version`, `servers`, `stop`, `started_at`; ours adds `id`, `kind` (`release`, `reconfigure`, `manual`), `package` (`file`, `size`, `sha256`), `allow_downgrade`, `allow_no_way_back`, `ending` (`superseded`), `stopped` (`by`, `leader`, `reason`, `at`)"
        "leader updater; `necoctl stop`, `recover`; setup"
        "One update of all members. Deleted by `recover`."
    original "status/bootservers/<LRN>" "status/bootservers/0"
        "status: `version`, `step`, `cond` (0 not running or settled, 1 running, 2 aborted, 3 completed), `message`; ours adds `request`, `origin` (`lrn`, `step`, `cause`)"
        "that server's worker, once per transition"
        "How far the server is. Deleted by `recover` and `leave`."
    ours "progress/<LRN>" "progress/0"
        "`request`, `step`, `attempt`, `doing`, `bytes`, `total_bytes`, `since`"
        "that server's worker, at most once per 2 s"
        "What the server is doing inside its step."
    ours "plan/<LRN>" "plan/0"
        "`request`, `recipe` (digest), `changes` (names of components)"
        "that server's worker, before it posts step 1"
        "What the request would change there; different recipe digests abort the request."
    ours "alive/<LRN>" "alive/0"
        "`machine_id`, `boot_id`, `version`, `address`, `busy`, `unfit`"
        "that server's worker, with a lease of 30 s"
        "The server lives. Written only if absent or of the same machine."
    ours "turn/<name>" "turn/etcd"
        "`lrn`, `request`, `since`"
        "its holder, by compare-absent, without lease; released by the holder, or by an operator, whose reason stands under `order/`"
        "Permission for what only one server may do at a time."
    ours "group/<name>" "group/vault"
        "`request`, `way` (`forward` or `back`)"
        "the first member that acts on the group"
        "Which way an outage group goes; decided once for all members."
    ours "clock/<id>" "clock/43eef0a3d1a72173"
        "`elapsed`, `step`, `step_elapsed` (nanoseconds)"
        "leader updater, at most every 10 s"
        "How long the request and its step have been led and not paused."
    ours "control/target" "control/target"
        "`version`, `pinned`, `allow_downgrade`, `allow_no_way_back`, `by`, `reason`, `at`"
        "`necoctl update`"
        "The version an operator asked for."
    ours "control/pause" "control/pause"
        "`by`, `reason`, `at`"
        "`necoctl pause`; deleted by `resume`"
        "Nobody starts a step while it exists, outside of groups."
    ours "control/withdrawn/<version>" "control/withdrawn/2026.11.21-40152"
        "`by`, `reason`, `at`"
        "`necoctl withdraw`"
        "The version is not started, and stopped where it runs."
    ours "control/epoch" "control/epoch"
        "`by`, `reason`, `at`, `epoch`"
        "`necoctl`, after etcd was restored from a backup"
        "Grows by one; workers that have seen a later epoch rest."
    ours "seen/<version>" "seen/2026.11.21-40152"
        "`at`, `aborted` (id), `package`"
        "leader updater; the last 50 are kept"
        "When a release was first seen, and whether a request for it was aborted."
    ours "history/<time>-<id>" "history/2026-11-21T08:00:00.000000000Z-43eef0a3d1a72173"
        "`id`, `version`, `servers`, `kind`, `started_at`, `ended_at`, `outcome` (`completed`, `aborted`, `stopped`, `superseded`), `by`, `cause`, `origin`, `notices`"
        "whoever ends or replaces the request, in the same transaction; the last 200 are kept"
        "How a request ended."
    ours "history/<time>-<id>/<LRN>" "history/2026-11-21T08:00:00.000000000Z-43eef0a3d1a72173/0"
        "`lrn`, `steps` (`step`, `begun`, `ended`)"
        "that server's worker, together with its status"
        "When the server began and ended each step."
    ours "order/<time>" "order/2026-11-21T08:00:00.000000000Z"
        "`order`, `by`, `reason`"
        "`necoctl`, in the transaction that carries the order out; the last 200 are kept"
        "What an operator ordered, in the words of the command line, and why."
    ours "preview/<id>" "preview/694d8f0000000001"
        "`version`, `servers`, `by`"
        "`necoctl plan`, with the lease whose id in hexadecimal is `<id>`"
        "Asks each server what an update would change there."
    ours "preview/<id>/<LRN>" "preview/694d8f0000000001/0"
        "`running`, `recipe` (digest), `steps` (`name`, `one_way`, `scope`, `changes`), `groups` (`name`, `stop`, `apply`, `units`, `because`), `error`"
        "that server's worker, with the lease of the question"
        "What the update would change there. Gone with the question."
    original "info/bootservers/<LRN>" "info/bootservers/0"
        "empty"
        "setup, join; deleted by `leave`"
        "The server is registered."
    original "info/neco-release" "info/neco-release"
        "version text"
        "leader updater; setup"
        "The newest release that may be installed."
    original "info/ssh-pubkey" "info/ssh-pubkey"
        "text"
        "`neco ssh generate`"
        "The public key for the nodes."
    original "contents/<name>" "contents/sabakan"
        "`version`, `success`; ours adds `request`, `inputs` (digest)"
        "the worker that holds `leader/worker/`"
        "How a once-per-cluster step ended: `sabakan`, `cke`, `dhcp.json`, `cke-template`, `user-resources`. Deleted by `recover`."
    original "install/<LRN>/containers/<name>" "install/0/containers/etcd"
        "image tag"
        "worker, setup"
        "What the server has installed. Deleted by `leave`."
    original "install/<LRN>/debs/<name>" "install/0/debs/etcdpasswd"
        "release tag"
        "worker"
        "What the server has installed. Deleted by `leave`."
    original "config/env" "config/env"
        "`none`, `test`, `dev`, `staging`, `prod`"
        "`necoctl config set`"
        "Which releases to follow; `none` when absent."
    original "config/notification/slack" "config/notification/slack"
        "URL"
        "`necoctl config set slack`"
        "Where notices go; none when absent. Secret."
    original "config/proxy" "config/proxy"
        "URL"
        "`necoctl config set`, setup"
        "Proxy for downloads; none when absent."
    original "config/check-update-interval" "config/check-update-interval"
        "nanoseconds, decimal"
        "`necoctl config set`"
        "How often to look for a release; 1 minute when absent."
    original "config/worker-timeout" "config/worker-timeout"
        "nanoseconds, decimal"
        "`necoctl config set`"
        "How long a request may take; 60 minutes when absent."
    ours "config/step-timeout" "config/step-timeout"
        "nanoseconds, decimal"
        "`necoctl config set`"
        "How long a step may go without progress; 20 minutes when absent."
    original "config/github-token" "config/github-token"
        "text"
        "`necoctl config set`, setup"
        "Token for the GitHub API. Secret."
    original "config/node-proxy" "config/node-proxy"
        "URL"
        "`necoctl config set`"
        "Proxy of the nodes."
    original "config/external-ip-address-block" "config/external-ip-address-block"
        "IPv4 network"
        "`necoctl config set`"
        "External addresses."
    original "config/lb-address-block-default" "config/lb-address-block-default"
        "IPv4 network"
        "`necoctl config set`"
        "Load balancer addresses."
    original "config/lb-address-block-bastion" "config/lb-address-block-bastion"
        "IPv4 network"
        "`necoctl config set`"
        "Load balancer addresses."
    original "config/lb-address-block-internet" "config/lb-address-block-internet"
        "IPv4 network"
        "`necoctl config set`"
        "Load balancer addresses."
    original "config/lb-address-block-internet-cn" "config/lb-address-block-internet-cn"
        "IPv4 network"
        "`necoctl config set`"
        "Load balancer addresses."
    original "config/release-time" "config/release-time"
        "cron expressions, one a line"
        "`necoctl config set`"
        "When releases may begin; always when absent."
    original "config/release-timezone" "config/release-timezone"
        "IANA time zone"
        "`necoctl config set`"
        "The zone of the cron expressions; `Asia/Tokyo` when absent."
    ours "config/release-window" "config/release-window"
        "nanoseconds, decimal"
        "`necoctl config set`"
        "How long a release stays due after a window opened; 1 hour when absent."
    original "leader/updater//<lease>" "leader/updater//694d8f0000000001"
        "host name"
        "updaters"
        "Election of the leader; the lowest create revision leads."
    original "leader/worker//<lease>" "leader/worker//694d8f0000000001"
        "LRN, decimal"
        "workers"
        "Election inside once-per-cluster steps."
    original "leader/sabakan-state-setter//<lease>" "leader/sabakan-state-setter//694d8f0000000001"
        "host name"
        "sabakan-state-setter"
        "Election."
    original "leader/neco-rebooter//<lease>" "leader/neco-rebooter//694d8f0000000001"
        "host name"
        "neco-rebooter"
        "Election."
    original "finish/<LRN>" "finish/0"
        "stage number, decimal"
        "setup"
        "Rendezvous of the setup."
    original "vault-unseal-key" "vault-unseal-key"
        "text"
        "setup"
        "Unseals Vault. Secret."
    original "vault-root-token" "vault-root-token"
        "text"
        "setup"
        "Vault's root token while setup needs it. Secret."
    original "bmc/<name>" "bmc/bmc-user"
        "JSON document or text"
        "`neco bmc config set`"
        "BMC credentials: `bmc-user`, `ipmi-user`, `ipmi-password`, `repair-user`, `repair-password`. Secret."
    original "teleport/auth-token" "teleport/auth-token"
        "text"
        "`neco init teleport`"
        "Joins nodes to Teleport. Secret."
    original "cke/weight" "cke/weight"
        "object: role to number"
        "`neco cke weight`"
        "Weights of the CKE template."
    ours "sabakan-state-setter/grace-periods" "sabakan-state-setter/grace-periods"
        "`since` (times by serial)"
        "the sabakan-state-setter that leads"
        "Machines that are bad and not told unhealthy before their grace is over; none when absent."
    original "neco-rebooter/reboot-list/<index>" "neco-rebooter/reboot-list/000000000000000a"
        "`index`, `node`, `group`, `reboot_time`, `status` (`Pending`, `Queued`, `Cancelled`)"
        "CLI, neco-rebooter"
        "Nodes to reboot; the index has 16 hex digits."
    original "neco-rebooter/write-index" "neco-rebooter/write-index"
        "decimal"
        "CLI"
        "The next index."
    original "neco-rebooter/processing-group" "neco-rebooter/processing-group"
        "text"
        "neco-rebooter"
        "The group being rebooted."
    original "neco-rebooter/is-enabled" "neco-rebooter/is-enabled"
        "`true` or `false`"
        "CLI"
        "Whether the rebooter works; off when absent."
}

/// The page `docs/etcd.md`.
pub fn etcd_markdown() -> String {
    let mut page = String::from(
        "# What Neco keeps in etcd\n\n\
         Generated from `crates/neco-schema/src/docs.rs` by `cargo xtask docs`; do not edit by hand.\n\n\
         All keys stand under the prefix `/neco/`. Values are compact JSON unless said otherwise; readers accept missing\n\
         fields and `null`, match field names without regard to case and keep fields they do not know. Keys that the\n\
         original (cybozu-go/neco) knows are marked with a dot; its programs can read everything that stands there.\n\
         A key that matches no line of this table is named in `necoctl status` and otherwise ignored.\n\n\
         | Key | Original | Value | Written by | Meaning |\n|---|---|---|---|---|\n",
    );
    for doc in SCHEMA {
        let secret = doc.example.parse::<Key>().is_ok_and(|key| key.is_secret());
        let mark = if doc.original { "•" } else { "" };
        let lock = if secret { " 🔒" } else { "" };
        page.push_str(&format!(
            "| `{}`{lock} | {mark} | {} | {} | {} |\n",
            doc.pattern, doc.value, doc.writers, doc.meaning
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigKey;

    #[test]
    fn every_example_is_a_key_and_comes_back() {
        for doc in SCHEMA {
            let key: Key = doc.example.parse().unwrap_or_else(|e| panic!("{}: {e}", doc.pattern));
            assert_eq!(key.to_string(), doc.example, "{}", doc.pattern);
        }
    }

    #[test]
    fn every_setting_is_described() {
        for key in ConfigKey::ALL {
            let text = Key::Config(key).to_string();
            assert!(SCHEMA.iter().any(|doc| doc.pattern == text), "{text}");
        }
    }
}
