"""Which test plays the trace of which rule, on real parts: each is red when its rule is taken out (`tests/mutants`).

The traces are those of `tests/model/README.md`. A test is named without its parameters: all of them belong to it.
"""

from __future__ import annotations

VIEW = "tests/integration/test_view.py::"
APPLIER = "tests/integration/test_applier.py::"
PUBLISHER = "tests/integration/test_publisher.py::"
SKIPS = "tests/integration/test_skips.py::"
SIZES = "tests/integration/test_sizes.py::"
VOUCHER = "tests/integration/test_voucher.py::"
CLASSIFIER = "tests/integration/test_classifier.py::"
COMMITTING = "tests/integration/test_committing.py::"
CONFIRMING = "tests/integration/guard/test_guard_confirming.py::"
STRANGERS = "tests/integration/test_strangers.py::"
GUARD = "tests/integration/guard/test_guard_servers.py::"
L2, L3, L4, L5, L6, STATE = (f"tests/traces/test_{part}.py::" for part in ("l2", "l3", "l4", "l5", "l6", "state"))

TRACES: dict[str, tuple[str, ...]] = {
    "skips_name_digest": (SKIPS + "test_wrong_skips_of_an_unreadable_record",),
    "skips_name_ledger": (SKIPS + "test_wrong_skips_of_an_unreadable_record",),
    "skips_unreadable_only": (SKIPS + "test_readable_record_counts_whatever_is_written",),
    "skips_proven_gaps": (SKIPS + "test_what_was_fetched_before_proves_no_gap",),
    "skips_asked_again": (SKIPS + "test_unreadable_record_is_skipped_without_a_restart",),
    "skips_kept": (SKIPS + "test_unreadable_record_is_skipped_without_a_restart",),
    "skips_need_stand": (SKIPS + "test_only_where_the_bucket_stands",),
    "skips_untold_only": (SKIPS + "test_what_was_told_is_not_skipped_again",),
    "batch_skips_unreadable_only": (SKIPS + "test_batch_that_cannot_be_unpacked_is_skipped",),
    "batch_skips_name_topic": (SKIPS + "test_heir_passes_over_what_was_skipped",),
    "batch_skips_kept": (SKIPS + "test_heir_passes_over_what_was_skipped",),
    "continuity": (
        L2 + "test_bucket_that_was_begun_anew_under_its_owner",
        APPLIER + "test_view_that_fell_back_is_caught_up",
    ),
    "drops_other_epochs": (L2 + "test_lost_key_loses_no_change",),
    "begins_empty": (L2 + "test_outbox_of_before_is_not_told",),
    "counts_members": (VOUCHER + "test_lost_keys_are_found_by_counting",),
    "counts_records": (VOUCHER + "test_lost_keys_are_found_by_counting",),
    "counts_locations": (L2 + "test_lost_key_loses_no_change",),
    "state_names_epoch": (L2 + "test_lost_key_loses_no_change",),
    "counts_outbox": (PUBLISHER + "test_lost_outbox_is_noticed",),
    "keeps_changes": (PUBLISHER + "test_heir_tells_what_the_dead_one_applied",),
    "takes_at_once": (PUBLISHER + "test_what_is_applied_after_the_taking_is_told_later",),
    "starts_at_published": (PUBLISHER + "test_view_that_is_lost_after_the_commit",),
    "up_to_last_taken": (PUBLISHER + "test_more_waits_than_is_taken",),
    "asks_when_settled": (
        PUBLISHER + "test_pending_transaction_is_waited_for",
        L3 + "test_bucket_that_moved_before_the_commit_is_waited_for",
    ),
    "after_doubt": (PUBLISHER + "test_commit_in_doubt_is_looked_up",),
    "trims_after_commit": (PUBLISHER + "test_killed_before_the_commit",),
    "one_token": (
        PUBLISHER + "test_taken_under_an_earlier_assignment_is_not_sent",
        L3 + "test_bucket_that_moved_away_is_not_sent",
    ),
    "fences_zombies": (
        PUBLISHER + "test_zombie_is_refused",
        PUBLISHER + "test_rebalance_in_the_middle_of_sending",
    ),
    "one_transaction": (PUBLISHER + "test_killed_before_the_commit",),
    "published_from_copy": (STRANGERS + "test_changes_behind_a_stranger_are_told",),
    "notes_told": (STRANGERS + "test_stranger_in_the_copy_moves_nothing",),
    "fenced_last": (STRANGERS + "test_worker_that_was_replaced_fails_with_its_copy_pending",),
    "adopts_once": (STRANGERS + "test_upgrade_adopts_the_offset_once",),
    "adopts_in_bounds": (STRANGERS + "test_what_cannot_be_is_not_adopted",),
    "begins_copies": (STRANGERS + "test_bucket_that_a_stranger_holds_while_others_are_told",),
    "checks_told": (PUBLISHER + "test_offset_below_what_was_told_is_a_fault",),
    "puts_aside": (SIZES + "test_offset_passes_no_change_without_its_letter",),
    "letter_with_offset": (SIZES + "test_offset_passes_no_change_without_its_letter",),
    "renews": (STRANGERS + "test_what_stands_is_written_again_each_hour",),
    "time_before_end": (VOUCHER + "test_no_stop_slips_in_between_two_questions",),
    "vouches_for_run": (VOUCHER + "test_rolled_back_server_is_not_vouched_for",),
    "vouches_for_epoch": (VOUCHER + "test_bucket_begun_anew_in_between_is_not_vouched_for",),
    "vouches_at_end": (VOUCHER + "test_end_is_reached_before_vouching",),
    "ledger_as_held": (L4 + "test_stop_behind_a_strangers_transaction",),
    "refuses_ahead": (VIEW + "test_nobody_vouches_by_a_clock_that_was_set_back",),
    "counts_first": (L4 + "test_bucket_is_counted_on_every_server",),
    "counts_again": (VOUCHER + "test_lost_keys_are_found_by_counting",),
    "replication_counts": (L4 + "test_server_that_was_demoted_and_promoted_again",),
    "commits_acknowledged": (CLASSIFIER + "test_nothing_is_committed_before_it_is_written",),
    "completes_its_mark": (COMMITTING + "test_acknowledgements_overtake_each_other",),
    "completes_in_order": (COMMITTING + "test_acknowledgements_overtake_each_other",),
    "leaves_marks": (COMMITTING + "test_late_acknowledgement_moves_nobody_elses_offset",),
    "commits_at_takeover": (CLASSIFIER + "test_everything_is_committed_when_taken_over",),
    "commits_at_end": (CLASSIFIER + "test_end_behind_transactions_is_reached",),
    "resumes_at_committed": (CLASSIFIER + "test_successor_goes_on_where_the_last_one_committed",),
    "begins_at_first": (CLASSIFIER + "test_everything_is_committed_when_taken_over",),
    "resumes_at_noted": (STRANGERS + "test_texts_that_a_stranger_took",),
    "counts_noted": (STRANGERS + "test_texts_that_a_stranger_took",),
    "writes_again": (STRANGERS + "test_what_was_overwritten_is_written_again",),
    "names_ledger": (L5 + "test_texts_that_went_into_another_ledger",),
    "refuses_other_ledger": (L5 + "test_texts_that_went_into_another_ledger",),
    "counts_own_ledger": (L5 + "test_texts_that_went_into_another_ledger",),
    "names_topic": (L5 + "test_offset_of_an_inbound_that_is_gone",),
    "rereads_other_topic": (L5 + "test_offset_of_an_inbound_that_is_gone",),
    "notices_other_topic": (L5 + "test_classifier_whose_inbound_is_made_anew",),
    "counts_own_topic": (L5 + "test_offset_of_an_inbound_that_is_gone",),
    "clock_before_topics": (L5 + "test_inbound_that_is_made_anew_while_a_pass_begins",),
    "unread_holds_back": (VOUCHER + "test_time_waits_for_every_inbound_partition",),
    "every_partition": (VOUCHER + "test_time_waits_for_every_inbound_partition",),
    "clock_before_sample": (L5 + "test_no_text_comes_in_between_two_questions",),
    "samples_as_held": (L5 + "test_stop_behind_an_open_transaction",),
    "drops_claims": (VOUCHER + "test_time_that_waits_for_the_end_does_not_outlive_its_clock",),
    "lists_live": (VOUCHER + "test_time_waits_for_every_inbound_partition",),
    "guard_identity": (GUARD + "test_a_promoted_replica_is_another_server",),
    "guard_at_once": (L6 + "test_no_stop_slips_in_between_two_commands",),
    "passes_at_once": (
        CONFIRMING + "test_the_confirmation_of_an_opt_out_passes_once",
        CONFIRMING + "test_a_race_has_one_winner",
    ),
    "passes_by_offset": (CONFIRMING + "test_a_pass_is_for_one_text",),
    "passes_by_kind": (CONFIRMING + "test_each_change_has_its_own",),
    "passes_in_window": (CONFIRMING + "test_a_pass_is_over_after_five_minutes",),
    "passes_when_vouched": (CONFIRMING + "test_nothing_passes_where_nobody_vouches",),
    "first_vouching_drops_passes": (
        CONFIRMING + "test_nothing_passes_where_nobody_vouches",
        CONFIRMING + "test_nothing_passes_again_after_a_rollback",
    ),
    "the opt-out wins a tie": (STATE + "test_opt_out_wins_a_tie",),
}

EXCEPTIONS: dict[str, str] = {
    "commits_as_member": "it is the broker's, and the model shows that nothing goes wrong without it",
}
"""Rules of the model that no test plays, and why."""

STATE_RULES = frozenset({"the opt-out wins a tie"})
"""What the model takes from the product itself: its search does not take it away, the mutants do."""
