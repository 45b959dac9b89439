//! Driving a cluster by hand, one interleaving at a time.

use std::time::Duration;

use super::operator::{Command, Operator};
use super::worker::Part;
use super::{Actor, Cluster};

/// How many actions a script may take to get where it wants.
const ENOUGH: usize = 5_000;

impl Cluster {
    /// Lets the server at this index act, alone, until something holds.
    ///
    /// # Panics
    /// If it comes to rest before.
    pub fn drive(&mut self, at: usize, until: impl Fn(&Self) -> bool) {
        self.drive_all(&[at], until);
    }

    /// Lets these servers act in turn until something holds.
    ///
    /// # Panics
    /// If they come to rest before.
    pub fn drive_all(&mut self, servers: &[usize], until: impl Fn(&Self) -> bool) {
        for _ in 0..ENOUGH {
            if until(self) {
                return;
            }
            let mut acted = false;
            for at in servers {
                for actor in self.actors_of(*at) {
                    if until(self) {
                        return;
                    }
                    acted |= self.act_if_ready(actor);
                }
            }
            assert!(acted || until(self), "at rest before that: {}", self.who_waits());
        }
        panic!("too many actions: {}", self.who_waits());
    }

    /// Lets these servers act until they rest.
    ///
    /// # Panics
    /// If they do not.
    pub fn rest_of(&mut self, servers: &[usize]) {
        for _ in 0..ENOUGH {
            let mut acted = false;
            for at in servers {
                for actor in self.actors_of(*at) {
                    acted |= self.act_if_ready(actor);
                }
            }
            if !acted {
                return;
            }
        }
        panic!("no rest: {}", self.who_waits());
    }

    /// Lets each part of one server do one action at most.
    pub fn step_of(&mut self, at: usize) {
        for actor in self.actors_of(at) {
            self.act_if_ready(actor);
        }
    }

    fn actors_of(&self, at: usize) -> [Actor; 5] {
        [
            Actor::Worker(at, Part::Task),
            Actor::Worker(at, Part::Main),
            Actor::Worker(at, Part::Alive),
            Actor::Installer(at),
            Actor::Manager(at),
        ]
    }

    /// Lets one actor act, if it has something to do.
    pub fn act_if_ready(&mut self, actor: Actor) -> bool {
        let ready = self.ready().contains(&actor);
        if ready {
            self.act(actor);
        }
        ready
    }

    /// Lets every living worker say that it lives, and nothing else.
    pub fn settle_alive(&mut self) {
        for at in 0..self.workers.len() {
            self.act_if_ready(Actor::Worker(at, Part::Alive));
        }
    }

    /// Lets the updaters act until they rest.
    ///
    /// # Panics
    /// If they do not.
    pub fn lead(&mut self) {
        for _ in 0..ENOUGH {
            let mut acted = false;
            for at in 0..self.updaters.len() {
                acted |= self.act_if_ready(Actor::Updater(at));
            }
            if !acted {
                return;
            }
        }
        panic!("updaters do not rest: {}", self.who_waits());
    }

    /// Lets everybody act until nobody has anything to do, without time passing.
    ///
    /// # Panics
    /// If they do not rest.
    pub fn settle(&mut self) {
        for _ in 0..ENOUGH {
            let ready = self.ready();
            if ready.is_empty() {
                return;
            }
            for actor in ready {
                self.act_if_ready(actor);
            }
        }
        panic!("no rest: {}", self.who_waits());
    }

    /// Lets everybody act, with time passing, until something holds.
    ///
    /// # Panics
    /// If it does not within two hours.
    pub fn wait_until(&mut self, until: impl Fn(&Self) -> bool) {
        let deadline = self.world.now + Duration::from_secs(7200);
        loop {
            self.settle();
            if until(self) {
                return;
            }
            assert!(self.world.now < deadline, "not within two hours: {}", self.who_waits());
            self.pass(Duration::from_secs(10));
        }
    }

    /// An operator gives an order; whether it was carried out.
    pub fn order(&mut self, command: Command) -> bool {
        let before = self.world.etcd.revision();
        let mut operator = Operator::new(&self.world, command);
        for _ in 0..20 {
            if operator.act(&mut self.world) {
                break;
            }
        }
        self.world.etcd.revision() > before
    }
}
