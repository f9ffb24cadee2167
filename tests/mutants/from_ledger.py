"""The ways from the ledger, without its rules: what a record does, continuity (L2), publishing (L3)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

APPLY, BEGIN, TAKE, AUDIT = (f"suppression/{name}.lua" for name in ("apply", "begin", "take", "audit"))

NOTED = "noted = kept.greatest(note)\n"
ANY_NOTE = 'max((one.offset for one in kept if one and one.note in ("", note)), default=None)'
SEND_COPY, SEND_GROUP = (
    f"            self._retrying(lambda: self._send_offsets(producer, places, token.{name}_metadata))\n"
    for name in ("copy", "group")
)

STATE = [
    Mutant(
        "tie reversed",
        "the opt-out wins a tie",
        "of two texts of one time the START holds",
        (
            Edit(
                APPLY,
                "not (status == 'O' and stored.status == 'I')",
                "not (status == 'I' and stored.status == 'O')",
            ),
        ),
        in_ci=True,
    ),
    Mutant(
        "tie left to the order",
        "the opt-out wins a tie",
        "of two texts of one time the first holds",
        (Edit(APPLY, "and not (status == 'O' and stored.status == 'I') then", "then"),),
    ),
]

L1 = [
    Mutant(
        "a skip is of a place, whatever stands there",
        "skips_name_digest",
        "the digest is not compared",
        (
            Edit(
                "domain/skips.py",
                "return digest in self._digests.get((number, offset), ())",
                "return bool(self._digests.get((number, offset)))",
            ),
        ),
    ),
    Mutant(
        "a skip is of a name, whichever topic has it",
        "skips_name_ledger",
        "the topic's id is not compared",
        (Edit("domain/skips.py", "if skip.topic_id != self.topic_id:", "if False:"),),
    ),
    Mutant(
        "a readable record can be skipped",
        "skips_unreadable_only",
        "it is looked for a skip before the record is read",
        (
            Edit(
                "reading.py",
                "part.add(ledger.entry(message.value(), number, offset, appended_at(message)))",
                "(part.pass_over(offset + 1) if passage.allowed.record(partition, offset, message.value())"
                " else part.add(ledger.entry(message.value(), number, offset, appended_at(message))))",
            ),
        ),
    ),
    Mutant(
        "a later record proves a gap",
        "skips_proven_gaps",
        "nothing is read anew before places are taken to have no record",
        (Edit("passage.py", "proven = self._proven.get((partition, position))", "proven = allowed"),),
    ),
    Mutant(
        "who stands stands until a restart",
        "skips_asked_again",
        "nobody tries again",
        (Edit("applier.py", "if self._tried != self._passage.changes:", "if False:"),),
    ),
    Mutant(
        "a skip counts once",
        "skips_kept",
        "it is forgotten when it was used",
        (
            Edit(
                "domain/skips.py",
                "return digest in self._digests.get((number, offset), ())",
                "return digest in self._digests.pop((number, offset), ())",
            ),
        ),
    ),
    Mutant(
        "what was applied can be skipped",
        "skips_need_stand",
        "the command does not look where the bucket stands",
        (
            Edit("skipping/finding.py", "if meta.applied > places.first:", "if False:"),
            Edit("skipping/finding.py", "if meta.applied < places.first:", "if False:"),
        ),
    ),
    Mutant(
        "what was told can be skipped",
        "skips_untold_only",
        "the command does not look how far changes were told",
        (Edit("skipping/commands.py", "if find.told and not told:", "if False:"),),
    ),
]

L2 = [
    Mutant(
        "continuity off",
        "continuity",
        "a batch is applied wherever it was read from",
        (Edit(APPLY, "if position > applied then return", "if false then return"),),
        in_ci=True,
    ),
    Mutant(
        "content of another epoch is kept",
        "drops_other_epochs",
        "a location that was not touched in this epoch is read all the same",
        (Edit(APPLY, "local record = known[place] and redis.call(", "local record = redis.call("),),
    ),
    Mutant(
        "a new bucket keeps its outbox",
        "begins_empty",
        "the outbox is neither deleted nor counted as empty",
        (
            Edit(BEGIN, "redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])", "redis.call('DEL', KEYS[1], KEYS[3])"),
            Edit(BEGIN, "'outbox', '0', 'locations'", "'outbox', tostring(redis.call('ZCARD', KEYS[2])), 'locations'"),
            Edit(APPLY, "waiting = waiting + #changes / 2", "waiting = redis.call('ZCARD', outbox)"),
        ),
    ),
    Mutant(
        "the outbox is not counted",
        "counts_outbox",
        "whoever takes from the outbox does not see that some of it is gone",
        (Edit(TAKE, "if redis.call('ZCARD', KEYS[2]) ~= tonumber(m[5]) then", "if false then"),),
    ),
    Mutant(
        "members are not counted",
        "counts_members",
        "the audit does not compare the sets",
        (Edit(AUDIT, "members == expected[1] and", "true and"),),
    ),
    Mutant(
        "records are not counted",
        "counts_records",
        "the audit does not compare the states",
        (Edit(AUDIT, "states == expected[2] and", "true and"),),
    ),
    Mutant(
        "locations are not counted",
        "counts_locations",
        "apply takes a location that is not listed for one that was never touched",
        (Edit(APPLY, "or redis.call('SCARD', locations) ~= touched then", "then"),),
    ),
    Mutant(
        "a state without its epoch will do",
        "state_names_epoch",
        "a state that was lost reads as one without records",
        (
            Edit(APPLY, "or redis.call('TYPE', state).ok ~= 'hash'", ""),
            Edit(APPLY, "or redis.call('HGET', state, 'epoch') ~= epoch then", "then"),
        ),
    ),
]

L3 = [
    Mutant(
        "outbox off",
        "keeps_changes",
        "no change is left in the outbox",
        (Edit(APPLY, "if decision == 'C' and offset >= published then", "if false then"),),
        in_ci=True,
    ),
    Mutant(
        "outbox and position are read in two steps",
        "takes_at_once",
        "the offset that is committed is read after the changes were",
        (
            Edit(
                "publisher.py",
                "_up_to(one, limit) for bucket, one in taken.items()",
                "(_up_to(one, limit) if len(one.changes) == limit else self._view.metas([bucket])[bucket].applied)"
                " for bucket, one in taken.items()",
            ),
        ),
    ),
    Mutant(
        "publishing below `published`",
        "starts_at_published",
        "publishing begins at the oldest change that waits",
        (
            Edit(
                "publisher.py",
                "starts = {bucket: self._known[bucket] for bucket in buckets}",
                "starts = dict.fromkeys(buckets, 0)",
            ),
        ),
        in_ci=True,
    ),
    Mutant(
        "the offset covers what was not taken",
        "up_to_last_taken",
        "`applied` is committed, however much is left",
        (Edit("publisher.py", "    if len(taken.changes) == limit:", "    if False:"),),
    ),
    Mutant(
        "`published` is read while a transaction is pending",
        "asks_when_settled",
        "the offset of before is taken for the last one",
        (
            Edit(
                "kafka/committed.py",
                '"isolation.level": "read_committed" if waits_for_transactions',
                '"isolation.level": "read_uncommitted" if waits_for_transactions',
            ),
        ),
    ),
    Mutant(
        "`published` is what the group says",
        "published_from_copy",
        "whatever a stranger commits there is taken for told",
        (Edit("published.py", NOTED, "noted = kept.group.offset if kept.group else 0\n"),),
    ),
    Mutant(
        "an offset without a note counts as told",
        "notes_told",
        "whatever a stranger commits in the copy is taken for told",
        (Edit("published.py", NOTED, f"noted = {ANY_NOTE}\n"),),
    ),
    Mutant(
        "the group's offsets are sent first",
        "fenced_last",
        "who was replaced after that sends its copy's unfenced, and nobody waited for them",
        (Edit("kafka/producers.py", f"{SEND_COPY}{SEND_GROUP}", f"{SEND_GROUP}{SEND_COPY}"),),
    ),
    Mutant(
        "an offset without a note is adopted again and again",
        "adopts_once",
        "a stranger's is taken for that of the version before",
        (
            Edit(
                "published.py",
                NOTED,
                f"{NOTED}    if kept.group and not kept.group.note:\n        return kept.group.offset\n",
            ),
        ),
    ),
    Mutant(
        "whatever stands there is adopted",
        "adopts_in_bounds",
        "also what cannot be the version before's",
        (Edit("published.py", "copy is None and remembered <= group.offset <= end():", "copy is None:"),),
    ),
    Mutant(
        "no copy is begun before the first change is told",
        "begins_copies",
        "a stranger's offset, who came before the first worker, is taken for that of the version before",
        (Edit("publisher.py", "self._begun or self._begin_copies()", "True"),),
    ),
    Mutant(
        "a worker begins only the copies of its own buckets",
        "begins_copies",
        "a stranger keeps a bucket until changes of others are told, and its offset is adopted then",
        (Edit("publisher.py", "[Partition(self._ledger, bucket) for bucket in every]", "[*self._token.partitions]"),),
    ),
    Mutant(
        "meta is not asked how far changes were told",
        "checks_told",
        "offsets that expired are taken for those of a beginning",
        (Edit("published.py", "        check_told(partition, noted or 0, remembered)\n", ""),),
    ),
    Mutant(
        "what stands is never written again",
        "renews",
        "it expires where nothing moves",
        (Edit("publisher.py", "if now - self._written > WRITE_EVERY:", "if False:"),),
    ),
    Mutant(
        "a change that no topic takes is waited for",
        "puts_aside",
        "nothing is put aside",
        (
            Edit(
                "putting_aside.py",
                "        except Refused as problem:\n",
                "        except Refused as problem:\n            raise\n",
            ),
        ),
    ),
    Mutant(
        "the letter is written behind the offset",
        "letter_with_offset",
        "a crash between the two leaves a change of which nobody hears",
        (
            Edit(
                "putting_aside.py",
                "                self._outbox.publish([*taken, letter], offsets, token, note)\n",
                "                self._outbox.publish(taken, offsets, token, note)\n"
                "                self._outbox.publish([letter], {}, token, note)\n",
            ),
        ),
    ),
    Mutant(
        "a commit in doubt is taken as aborted",
        "after_doubt",
        "`published` is what it was before",
        (
            Edit(
                "publisher.py",
                "if isinstance(problem, NotPublished):\n                self._known = {}",
                "if False: pass",
            ),
        ),
    ),
    Mutant(
        "a commit in doubt is taken as done",
        "after_doubt",
        "`published` is what it would be",
        (
            Edit(
                "publisher.py",
                "if isinstance(problem, NotPublished):\n                self._known = {}",
                "if isinstance(problem, NotPublished):\n"
                "                self._known = {b: meta.applied for b, meta in self._view.metas(due).items()}",
            ),
        ),
    ),
    Mutant(
        "trim before commit",
        "trims_after_commit",
        "what is taken is forgotten before it is told",
        (
            Edit(
                "publisher.py",
                "records = [record for bucket in offsets for record in rendered[bucket]]",
                "records = [record for bucket in offsets for record in rendered[bucket]]\n"
                "            self._view.trim(offsets)",
            ),
        ),
        in_ci=True,
    ),
    Mutant(
        "sent under a later assignment",
        "one_token",
        "what was taken goes out under the assignment of now",
        (
            Edit(
                "publisher.py",
                "if offsets and self._inbox.token is token:",
                "token = self._inbox.token\n        if offsets:",
            ),
        ),
    ),
    Mutant(
        "the broker does not know who sends",
        "fences_zombies",
        "offsets go out under the metadata of a consumer that never joined, which fences nobody",
        (
            Edit(
                "kafka/inbox.py",
                "self._owned: set[Partition] = set()",
                "self._stranger, self._owned = Consumer(without(config, PRODUCERS_ONLY)), set()",
            ),
            Edit(
                "kafka/inbox.py",
                "self._consumer.consumer_group_metadata() if self._owned",
                "self._stranger.consumer_group_metadata() if self._owned",
            ),
        ),
    ),
    Mutant(
        "changes and offset in two transactions",
        "one_transaction",
        "a crash between the two leaves changes told and not counted",
        (
            Edit(
                "kafka/producers.py",
                '                self._abandon("records were not acknowledged in time")\n            self._retrying',
                '                self._abandon("records were not acknowledged in time")\n'
                "            producer.commit_transaction(self._timeout)\n"
                "            producer.begin_transaction()\n            self._retrying",
            ),
        ),
    ),
]
