//! When many machines are lost at once, the view is doubted before they are. Pure: times are arguments.
//!
//! One agent of serf tells of all machines. One that was just started, or is cut off, would have them all unreachable; and a
//! rule of alerts that misfires would have them all unhealthy.

use std::time::Duration;

use neco_sabakan::MachineState;

use crate::grace::Move;

/// So many machines may be lost at once in a data centre of any size.
const FEW: usize = 2;

/// Whether a view of serf can be believed: it must show more than half of the registered boot servers alive. Whoever leads
/// has a majority of etcd behind it, so a view that shows fewer is that of an agent which does not see what this server sees.
pub fn sees_enough(boot_servers_alive: usize, registered: usize) -> bool {
    registered == 0 || boot_servers_alive * 2 > registered
}

/// Holds losses back that are too many at once, until they have lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brake {
    since: Option<Duration>,
}

/// What becomes of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// They are told.
    Told,
    /// They are held back for so long yet.
    Held(Duration),
}

impl Brake {
    /// Judges the moves of one look; `well` machines are healthy or unhealthy before it, `patience` is how long a mass of
    /// losses must last, `now` comes from a clock that never goes back.
    pub fn judge(
        &mut self,
        moves: &[Move],
        well: usize,
        patience: Duration,
        now: Duration,
    ) -> Losses {
        let lost = moves.iter().filter(|to| is_loss(to)).count();
        if lost <= FEW || lost * 2 <= well {
            self.since = None;
            return Losses::Told;
        }
        let since = *self.since.get_or_insert(now);
        match patience.checked_sub(now.saturating_sub(since)) {
            Some(left) if !left.is_zero() => Losses::Held(left),
            _ => Losses::Told,
        }
    }
}

/// Whether a move takes a machine away that was there.
pub fn is_loss(to: &Move) -> bool {
    use MachineState::{Healthy, Unhealthy, Unreachable};
    matches!((to.from, to.to), (Healthy, Unhealthy | Unreachable) | (Unhealthy, Unreachable))
}

#[cfg(test)]
mod tests {
    use MachineState::{Healthy, Unhealthy, Unreachable};
    use neco_sabakan::Serial;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const PATIENCE: Duration = Duration::from_secs(600);

    fn moves(count: usize, from: MachineState, to: MachineState) -> Vec<Move> {
        let serial = |at: usize| Serial::new(format!("m{at}")).expect("a serial");
        let one = |at| Move { serial: serial(at), from, to, why: String::new() };
        (0..count).map(one).collect()
    }

    #[test]
    fn a_view_needs_more_than_half_of_the_boot_servers() {
        for (alive, registered, enough) in [
            (0, 0, true),
            (1, 1, true),
            (0, 1, false),
            (1, 3, false),
            (2, 3, true),
            (2, 4, false),
            (3, 5, true),
        ] {
            assert_eq!(sees_enough(alive, registered), enough, "{alive} of {registered}");
        }
    }

    #[test]
    fn more_than_half_at_once_is_held_until_it_has_lasted() {
        for (lost, well, told) in [
            (0, 0, true),
            (2, 2, true),
            (3, 4, false),
            (3, 6, true),
            (3, 5, false),
            (50, 100, true),
            (51, 100, false),
        ] {
            for (from, to) in
                [(Healthy, Unreachable), (Unhealthy, Unreachable), (Healthy, Unhealthy)]
            {
                let judged = Brake::default().judge(&moves(lost, from, to), well, PATIENCE, MINUTE);
                let expected = if told { Losses::Told } else { Losses::Held(PATIENCE) };
                assert_eq!(judged, expected, "{lost} of {well}, {from} to {to}");
            }
        }
        let mut brake = Brake::default();
        let many = moves(10, Healthy, Unreachable);
        let mut at =
            |minute: u32, moves: &[Move]| brake.judge(moves, 10, PATIENCE, minute * MINUTE);
        assert_eq!(at(1, &many), Losses::Held(10 * MINUTE));
        assert_eq!(at(10, &many), Losses::Held(MINUTE));
        assert_eq!(at(11, &many), Losses::Told);
        assert_eq!(at(12, &many), Losses::Told);
        // One look at which it was better begins it anew.
        assert_eq!(at(13, &many[..2]), Losses::Told);
        assert_eq!(at(14, &many), Losses::Held(10 * MINUTE));
    }

    #[test]
    fn what_gets_better_is_no_loss_however_much_it_is() {
        for (from, to) in [(Unreachable, Healthy), (Unhealthy, Healthy), (Unreachable, Unhealthy)] {
            let moves = moves(100, from, to);
            assert_eq!(Brake::default().judge(&moves, 10, PATIENCE, MINUTE), Losses::Told);
        }
    }
}
