//! What a data centre consists of, computed from its description: nothing here touches the machine.

pub mod address;
pub mod bird;
pub mod image;
pub mod machine;
pub mod topology;
