//! Prints the page `docs/etcd.md`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(neco_schema::etcd_markdown().as_bytes())
}
