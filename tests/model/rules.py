"""The rules of the protocol, each of which can be taken away to see what goes wrong without it.

Letters and names are those of docs/ARCHITECTURE.md, "The protocol"; a comment names the code that keeps the rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal


def rule(chapter: str, sentence: str, default: object = True) -> Any:  # noqa: FBT002 - kept, unless said otherwise
    """Declare a rule: where it stands, and what it says."""
    return field(default=default, metadata={"chapter": chapter, "sentence": sentence})


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules are kept, but for those that are given another value."""

    # apply.lua
    continuity: bool = rule("L2", "apply refuses a batch that was read from above `applied`")
    drops_other_epochs: bool = rule("L2", "content of another epoch is dropped when it is first touched")
    counts_members: bool = rule("L2", "meta counts the members of the sets, and the audit compares")
    counts_records: bool = rule("L2", "meta counts the records of the states, and the audit compares")
    counts_locations: bool = rule("L2", "meta counts the locations, and apply compares")
    state_names_epoch: bool = rule("L2", "a location of this epoch whose state lacks the epoch is damage")
    counts_outbox: bool = rule("L2", "meta counts the waiting changes; another number is damage")
    keeps_changes: bool = rule("L3", "each CHANGED decision stays in the outbox until it is known to be published")
    # begin.lua
    begins_empty: bool = rule("L2", "a bucket begun anew has an empty outbox")
    # take.lua, and Publisher._publish
    takes_at_once: bool = rule("L3", "the outbox and `applied` are read in one atomic step")
    starts_at_published: bool = rule("L3", "publishing begins at `published`, not at the oldest change that waits")
    up_to_last_taken: bool = rule("L3", "where more changes wait the offset is that of the last one taken, plus one")
    # Skips, by_bucket, records
    skips_name_digest: bool = rule("L1", "a record is passed over only under a skip that names its digest")
    skips_name_ledger: bool = rule("L1", "a skip counts only in the ledger whose id it names")
    skips_unreadable_only: bool = rule("L1", "a record that the rules can read counts, whatever is written of it")
    skips_proven_gaps: bool = rule("L1", "a gap is passed over only where reading anew finds no record")
    skips_asked_again: bool = rule("L1", "whoever stands asks for skips again")
    skips_kept: bool = rule("L1", "a skip counts in every replay")
    # optout skip
    skips_need_stand: bool = rule("L1", "a skip is written only of the place at which the bucket stands")
    skips_untold_only: bool = rule("L1", "a skip is written only of what is not told yet")
    # Publisher._learn, CommittedReader
    asks_when_settled: bool = rule("L3", "`published` is asked with read_committed: nothing may be pending")
    after_doubt: Literal["ask", "taken as aborted", "taken as done"] = rule(
        "L3", "after a commit in doubt `published` is asked again", "ask"
    )
    # trim.lua, called after TransactionalOutbox.publish
    trims_after_commit: bool = rule("L3", "the outbox is trimmed after the commit")
    # Inbox.token, Token.group_metadata, and the broker
    one_token: bool = rule("L3", "what was taken under one assignment is not sent under a later one")
    fences_zombies: bool = rule("L3", "the broker refuses offsets under the group metadata of an older generation")
    one_transaction: bool = rule("L3", "changes and offset go out in one transaction")
    # Published, TransactionalOutbox
    published_from_copy: bool = rule("L3", "`published` is what the copy of the appliers' group holds, not the group")
    notes_told: bool = rule("L3", "an offset without our note proves nothing of what was told")
    fenced_last: bool = rule("L3", "of a transaction's offsets those of the group, under the token, are sent last")
    adopts_once: bool = rule("L3", "an offset of the version before is adopted only where the copy holds none")
    adopts_in_bounds: bool = rule("L3", "what is adopted lies between `published` in meta and the ledger's end")
    begins_copies: Literal["every", "own", "none"] = rule(
        "L3", "before the first change is told every bucket has a copy, also those that others own", "every"
    )
    checks_told: bool = rule("L3", "nobody publishes from below what a bucket's meta knows to be told")
    renews: bool = rule("L3", "what is committed is written again each hour, so that it cannot expire")
    # PuttingAside
    puts_aside: bool = rule("L3", "a change that its topic never takes is put aside, and those behind it are told")
    letter_with_offset: bool = rule("L3", "the offset passes such a change in the transaction of its dead letter")
    # Classifier._look_at_blocked, Passage, Probe.goes_on
    batch_skips_unreadable_only: bool = rule("L5", "what can be read of inbound counts, whatever is written of it")
    batch_skips_name_topic: bool = rule("L5", "a skip counts only in the inbound topic whose id it names")
    batch_skips_kept: bool = rule("L5", "a skip of inbound counts for whoever comes to its place")
    # Voucher.vouch, vouch.lua
    time_before_end: bool = rule("L4", "the time is read before the ledger's end")
    vouches_for_run: bool = rule("L4", "the server's identity must still hold when its bucket is vouched for")
    vouches_for_epoch: bool = rule("L4", "the epoch must still hold when its bucket is vouched for")
    vouches_at_end: bool = rule("L4", "`applied` must have reached the ledger's end")
    ledger_as_held: bool = rule("L4", "the ledger's end is what Kafka holds, not what may be read of it")
    refuses_ahead: bool = rule("L4", "what was read on a server lies not ahead of its clock when it is vouched for")
    counts_first: bool = rule("L4", "under a new identity a bucket is counted before it is vouched for")
    counts_again: bool = rule("L4", "a bucket is counted again every minute")
    replication_counts: bool = rule("L4", "the identity is the run id and the replication id")
    # Marks, LedgerProducer._delivered
    commits_acknowledged: bool = rule("L5", "an inbound offset is committed when all below it is acknowledged")
    completes_its_mark: bool = rule("L5", "each acknowledgement completes the mark its record was made under, no count")
    completes_in_order: bool = rule("L5", "a mark is done when it and all earlier ones have nothing outstanding")
    leaves_marks: bool = rule("L5", "a partition that is given up leaves every mark")
    # Classifier.commit
    commits_at_takeover: bool = rule("L5", "a classifier commits when it takes a partition over, an empty one too")
    commits_at_end: bool = rule("L5", "a classifier commits the offset of the end-of-partition event")
    # Classifier.assigned, Inbox
    resumes_at_committed: bool = rule("L5", "a classifier goes on at the committed offset")
    begins_at_first: bool = rule("L5", "where nothing was committed a classifier begins at the first record")
    names_ledger: bool = rule("L5", "each inbound commit names the ledger that it stands for")
    names_topic: bool = rule("L5", "each inbound commit names the inbound topic that it was reached in")
    rereads_other_topic: bool = rule("L5", "where a commit names another topic a classifier begins at the first record")
    notices_other_topic: bool = rule("L5", "a classifier whose inbound topic was made anew ends")
    refuses_other_ledger: bool = rule("L5", "a classifier refuses offsets that name another ledger")
    commits_as_member: bool = rule("L5", "the broker refuses the commit of a member that it takes for dead")
    resumes_at_noted: bool = rule("L5", "a classifier goes on at no offset without our note")
    writes_again: bool = rule("L5", "owners write again what was overwritten, in the group and in its copy")
    # Offsets.classified, Freshness.reached, Voucher._time
    counts_noted: bool = rule("L5", "the voucher counts no offset without our note")
    counts_own_ledger: bool = rule("L5", "the voucher does not count offsets that name another ledger")
    counts_own_topic: bool = rule("L5", "the voucher does not count offsets that name another topic")
    clock_before_topics: bool = rule("L5", "the clock is read before the voucher asks which topics inbound's are")
    unread_holds_back: bool = rule("L5", "a partition without a commit holds the time back")
    every_partition: bool = rule("L5", "a sample counts when the committed offsets have reached it in every partition")
    clock_before_sample: bool = rule("L5", "the clock is read before the ends that are sampled with it")
    samples_as_held: bool = rule("L5", "the ends that are sampled are what Kafka holds, not what may be read of it")
    drops_claims: bool = rule("L5", "where the clock was set back nothing waits for the ledger's end any more")
    lists_live: bool = rule("L5", "the list of inbound partitions is asked for live")
    # verdict.lua, Rules
    guard_identity: bool = rule("L6", "the guard compares the marker's identity with that of the server that answers")
    guard_at_once: bool = rule("L6", "membership and marker are read in one atomic step")

    # confirm.lua, vouch.lua
    passes_at_once: bool = rule("passes", "a pass is found and taken in one atomic step")
    passes_by_offset: bool = rule("passes", "a pass is for the confirmation of one ledger record, not of a patient")
    passes_by_kind: bool = rule("passes", "the pass of an opt-in is of no use while the patient is opted out")
    passes_in_window: bool = rule("passes", "a pass holds for five minutes")
    passes_when_vouched: bool = rule("passes", "nothing passes while the bucket is not vouched for on this server")
    first_vouching_drops_passes: bool = rule("passes", "the first vouching of an identity or epoch drops every pass")

    def without(self, **rules: Any) -> Rules:
        """Return these rules with some of them taken away."""
        return replace(self, **rules)


def names() -> list[str]:
    """Return the name of every rule."""
    return [one.name for one in fields(Rules)]


def sentence(name: str) -> str:
    """Return what a rule says, after the chapter in which it stands."""
    found = next(one for one in fields(Rules) if one.name == name)
    return f"{found.metadata['chapter']}: {found.metadata['sentence']}"
