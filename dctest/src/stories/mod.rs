//! What is to happen, and what is not, when things go wrong in a data centre: each story in a file, named by behaviour.

mod crash_in_each_step;
mod daemons_exit_at_start;
mod dead_server_removed;
mod drivers_keep_their_contracts;
mod etcd_leader_dies;
mod everybody_reboots;
mod full_recipe;
mod group_interrupted;
mod keys_rotate_with_one_server_off;
mod leader_is_partitioned;
mod member_never_comes_back;
mod new_etcd_image;
mod original_is_replaced;
mod package_installs_cleanly;
mod postinst_fails;
mod power_cut_before_the_verdict;
mod power_cut_during_dpkg;
mod power_cut_in_mid_step;
mod release_reaches_everybody;
mod releases_come_through_a_proxy;
mod sabakan_absent;
mod server_added;
mod server_removed;
mod site_program;
mod stop_and_recover;
mod switch_goes_down;
mod vault_sealed;

use crate::suite::Story;

/// All stories, in the order in which they are told.
pub const STORIES: &[Story] = &[
    drivers_keep_their_contracts::STORY,
    original_is_replaced::STORY,
    package_installs_cleanly::STORY,
    release_reaches_everybody::STORY,
    power_cut_in_mid_step::STORY,
    power_cut_during_dpkg::STORY,
    power_cut_before_the_verdict::STORY,
    everybody_reboots::STORY,
    postinst_fails::STORY,
    daemons_exit_at_start::STORY,
    stop_and_recover::STORY,
    etcd_leader_dies::STORY,
    leader_is_partitioned::STORY,
    switch_goes_down::STORY,
    keys_rotate_with_one_server_off::STORY,
    releases_come_through_a_proxy::STORY,
    member_never_comes_back::STORY,
    site_program::STORY,
    full_recipe::STORY,
    new_etcd_image::STORY,
    group_interrupted::STORY,
    vault_sealed::STORY,
    sabakan_absent::STORY,
    crash_in_each_step::STORY,
    server_added::STORY,
    server_removed::STORY,
    dead_server_removed::STORY,
];
