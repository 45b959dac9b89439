//! Stands in for programs of boot servers in the virtual data centre; which one is said by the name that it is called by.

use std::process::ExitCode;

fn main() -> ExitCode {
    neco_dctest::stand_in::main()
}
