//! `println!` and its kin for programs whose reader may have gone, as in `… --list | head -1`: what nobody reads is not said, and
//! the program does what it is there for. Those of the standard library panic; unit tests keep them, because they are captured.

#[allow(unused_macros, reason = "the library has no use for it, the program has")]
macro_rules! print {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stdout(), $($words)*);
    }};
}

macro_rules! println {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

macro_rules! eprintln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}
