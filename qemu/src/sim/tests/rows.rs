//! Rows of the fault matrix, each run with several neighbourhoods, with splitting off and on.

use super::{Ways, scenario};
use crate::sim::{run_seed, world::TraceTo};

/// Runs faults with splitting off and on, and wants nothing wrong.
fn row(names: &'static [&'static str]) {
    let wrong = super::on_large_stack(move || {
        let mut wrong = Vec::new();
        for name in names {
            let fault = scenario::fault(name).expect("in the table");
            for (seeds, ways) in [(1..3, Ways::PLAIN), (1..7, Ways::default())] {
                for seed in seeds {
                    let texts = run_seed(fault, seed, ways, &TraceTo::default()).1;
                    wrong.extend(
                        texts
                            .iter()
                            .map(|text| format!("{name} {seed} {ways:?}: {text}")),
                    );
                }
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn o5_run_an_origin_that_honours_open_ranges_only() {
    row(&["open-ranges"]);
}

#[test]
fn o8_run_a_head_that_fails_or_has_a_body() {
    row(&["head-403", "head-404", "head-body"]);
}

#[test]
fn o9_run_a_head_that_differs_from_the_get() {
    row(&["head-length", "head-etag", "head-type"]);
}

#[test]
fn o10_run_a_get_that_is_refused_where_the_head_was_not() {
    row(&["get-401", "get-403"]);
}

#[test]
fn o17_run_odd_etags_stay_plain() {
    row(&["etag-odd"]);
}

#[test]
fn o18_run_a_content_coding_stays_plain() {
    row(&["coded"]);
}

#[test]
fn o19_run_a_range_with_a_content_coding() {
    row(&["coded-range"]);
}

#[test]
fn o21_run_a_multipart_range() {
    row(&["multipart"]);
}

#[test]
fn o25_run_a_range_whose_lengths_disagree() {
    row(&["length-disagrees"]);
}

#[test]
fn o26_run_bytes_behind_a_range() {
    row(&["trailing", "trailing-reply"]);
}

#[test]
fn o29_run_sizes_about_the_threshold() {
    row(&["about-threshold"]);
}

#[test]
fn o30_run_odd_lengths_stay_plain() {
    row(&["length-odd"]);
}

#[test]
fn o31_run_private_replies_stay_plain() {
    row(&["private", "no-transform"]);
}

#[test]
fn o32_run_sixty_unknown_fields_arrive() {
    row(&["fields-60"]);
}

#[test]
fn k3_run_resets_everywhere() {
    row(&["rst-all"]);
}

#[test]
fn k5_run_stalls_that_end() {
    row(&["pause-b", "pause-all"]);
}

#[test]
fn k7_run_a_slow_head_and_a_slow_body() {
    row(&["slow-head-b", "slow-b"]);
}

#[test]
fn k8_run_answers_30_s_late() {
    row(&["late-all", "late"]);
}

#[test]
fn k12_run_one_connection_an_address() {
    row(&["one-connection"]);
}

#[test]
fn k13_run_a_neighbour_that_is_forbidden() {
    row(&["forbid-b-401", "forbid-b-451"]);
}

#[test]
fn k16_run_no_length_stays_plain() {
    row(&["no-length"]);
}

#[test]
fn k17_run_keep_alive_for_one() {
    row(&["keep-alive-1"]);
}

#[test]
fn k18_run_interim_replies() {
    row(&["interim"]);
}

#[test]
fn k19_run_another_service_and_trailers_announced() {
    row(&["alt-svc"]);
}

#[test]
fn k20_run_a_reset_for_the_last_ack() {
    row(&["reset-at-end"]);
}

#[test]
fn k22_run_an_origin_out_of_the_neighbours_reach() {
    row(&["filtered-b", "unreachable-b"]);
}

#[test]
fn k23_run_two_sites_and_two_ports() {
    row(&["two-sites"]);
}

#[test]
fn g5_run_large_heads_stay_plain() {
    row(&["head-large", "reply-head-large"]);
}

#[test]
fn g6_run_pieces_a_second_apart() {
    row(&["pieces-slow"]);
}

#[test]
fn g7_run_pieces_out_of_order() {
    row(&["pieces-disordered"]);
}

#[test]
fn g10_run_a_host_of_another_site() {
    row(&["host-other"]);
}

#[test]
fn q5_run_a_second_get_after_a_minute() {
    row(&["keep-alive-minute"]);
}

#[test]
fn q6_run_a_post_behind_a_get_is_asked_once() {
    row(&["post-after"]);
}

#[test]
fn q7_run_forty_downloads() {
    row(&["forty"]);
}

#[test]
fn q8_run_the_same_object_twice() {
    row(&["twice"]);
}

#[test]
fn q10_run_an_abort_in_the_last_segment() {
    row(&["aborts-late"]);
}

#[test]
fn q12_run_a_client_that_closes_midway() {
    row(&["client-closes"]);
}

#[test]
fn q14_run_a_client_without_power_leaves_nothing() {
    row(&["power-off"]);
}

#[test]
fn q2_run_ranges_that_a_server_ignores() {
    row(&["range-odd"]);
}

#[test]
fn t1_run_segment_sizes() {
    row(&["mss"]);
}

#[test]
fn t2_run_window_scales() {
    row(&["scale"]);
}

#[test]
fn t3_run_a_scale_that_is_not_answered() {
    row(&["scale-unanswered"]);
}

#[test]
fn t6_run_unknown_options_stay_plain() {
    row(&["options"]);
}

#[test]
fn t7_run_congestion_marks() {
    row(&["ecn"]);
}

#[test]
fn t8_run_urgent_requests_stay_plain() {
    row(&["urgent"]);
}

#[test]
fn t14_run_divided_and_late_acks() {
    row(&["acks-divided", "acks-late"]);
}

#[test]
fn t17_run_resets_near_and_far() {
    row(&["resets-near"]);
}

#[test]
fn t18_run_syns_midway() {
    row(&["syns"]);
}

#[test]
fn t19_run_the_same_port_again() {
    row(&["port-again"]);
}

#[test]
fn t20_run_keep_alive_probes() {
    row(&["keep-alive-probes"]);
}

#[test]
fn n4_run_a_neighbours_line_that_flaps() {
    row(&["flap-wan-b"]);
}

#[test]
fn n5_run_a_poor_air() {
    row(&["air-one-way", "air-poor"]);
}

#[test]
fn n7_run_the_own_line_gone() {
    row(&["wan-a-gone"]);
}

#[test]
fn n9_run_lines_far_apart() {
    row(&["rates-apart"]);
}

#[test]
fn n10_run_a_neighbour_far_away() {
    row(&["far-b"]);
}

#[test]
fn n11_run_a_deep_queue() {
    row(&["deep-queue"]);
}

#[test]
fn p1_run_a_neighbour_that_freezes() {
    row(&["freeze-b"]);
}

#[test]
fn p2_run_a_neighbour_whose_address_changes() {
    row(&["address-b"]);
}

#[test]
fn p8_run_three_routers() {
    row(&["three", "three-third-fastest"]);
}

#[test]
fn p9_run_both_lend() {
    row(&["both-lend"]);
}

#[test]
fn p10_run_clocks() {
    row(&["clock-fast-b", "clock-wraps"]);
}
