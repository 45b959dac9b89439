//! Installing the package of Neco: the unit that outlives the worker, and the worker that starts it and waits.

mod installer;
mod site;
mod unit;
