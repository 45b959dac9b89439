//! Releases that change this or that of boot servers that run everything.

use super::Draft;

const VAULT_UNIT: &str =
    include_str!("../../fixtures/full/usr/share/neco/templates/openbao.service.j2");
const VAULT: &str = include_str!("../../fixtures/full/usr/share/neco/components/vault.toml");
const CKE_UNIT: &str = include_str!("../../fixtures/full/lib/systemd/system/cke.service");
const SABAKAN_CONFIG: &str =
    include_str!("../../../debian/usr/share/neco/templates/sabakan.yml.j2");
const ETCD_CLIENT: &str =
    include_str!("../../../debian/usr/share/neco/templates/etcd-client.yml.j2");

const TEMPLATES: &str = "usr/share/neco/templates";

impl Draft {
    /// The same with a unit of Vault that is another in every version, and begins with this, a template.
    #[must_use]
    pub fn vault_begins_with(self, first: &str) -> Self {
        let service = format!(
            "{{% block service %}}\n{{{{ super() }}}}# {}\n{first}{{% endblock %}}\n",
            self.version
        );
        self.with(&format!("{TEMPLATES}/openbao.service.j2"), format!("{VAULT_UNIT}{service}"))
    }

    /// The same with a Vault that must be ready within ten seconds: a story need not wait for long.
    #[must_use]
    pub fn impatient_vault(self) -> Self {
        let text = VAULT.replace("within = \"60s\"", "within = \"10s\"");
        self.with("usr/share/neco/components/vault.toml", text)
    }

    /// The same with a configuration of sabakan that is another in every version.
    #[must_use]
    pub fn other_sabakan(self) -> Self {
        let text = format!("{SABAKAN_CONFIG}# {}\n", self.version);
        self.with(&format!("{TEMPLATES}/sabakan.yml.j2"), text)
    }

    /// The same with a service of CKE that begins with this.
    #[must_use]
    pub fn cke_begins_with(self, first: &str) -> Self {
        let service = format!("[Service]\n{first}");
        let text = CKE_UNIT.replacen("[Service]\n", &service, 1);
        self.with("lib/systemd/system/cke.service", text)
    }

    /// The same with another configuration of CKE and of whatever else finds etcd as it does.
    #[must_use]
    pub fn other_cke(self) -> Self {
        let text = format!("{ETCD_CLIENT}# {}\n", self.version);
        self.with(&format!("{TEMPLATES}/etcd-client.yml.j2"), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impatient_vault_has_another_deadline() {
        let draft = Draft::sound("2026.11.22-40001".parse().unwrap()).impatient_vault();
        let [(_, text)] = &draft.files[..] else { panic!("{:?}", draft.files) };
        assert!(text.contains("within = \"10s\"") && text != VAULT, "{text}");
    }

    #[test]
    fn a_cke_that_begins_otherwise_is_the_same_apart_from_that() {
        let draft = Draft::sound("2026.11.22-40001".parse().unwrap());
        let draft = draft.cke_begins_with("ExecStartPre=/bin/true\n");
        let [(_, text)] = &draft.files[..] else { panic!("{:?}", draft.files) };
        assert!(text.contains("\n[Service]\nExecStartPre=/bin/true\n"), "{text}");
        assert_eq!(text.replacen("ExecStartPre=/bin/true\n", "", 1), CKE_UNIT);
    }

    #[test]
    fn what_changes_is_told_by_the_version() {
        let draft = |version: &str| {
            let draft = Draft::sound(version.parse().unwrap());
            draft.vault_begins_with("ExecStartPre=/bin/true\n").other_sabakan().other_cke().files
        };
        let (one, other) = (draft("2026.11.22-40001"), draft("2026.11.22-40002"));
        assert_eq!(one.len(), 3);
        for ((path, text), (_, other)) in one.iter().zip(&other) {
            assert_ne!(text, other, "{path}");
            assert_eq!(text.replace("40001", "40002"), *other, "{path}");
        }
        let added = "{{ super() }}# 2026.11.22-40001\nExecStartPre=/bin/true\n{% endblock %}\n";
        assert!(one[0].1.ends_with(added), "{}", one[0].1);
    }
}
