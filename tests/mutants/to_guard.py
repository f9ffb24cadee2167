"""The way to the guard's answer, without its rules: vouching (L4), the time (L5), the guard (L6)."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

ASKED = "kept = self._offsets.kept(known, self._named)"
COUNTED = "kept.greatest(notes[partition.topic])"

L4 = [
    Mutant(
        "committed offsets of inbound are read after the ledger's end",
        "time_before_end",
        "the time covers what the end does not",
        (
            Edit(
                "questions.py",
                ASKED,
                f"early = self._bounds([Partition(self._ledger, bucket) for bucket in buckets])\n        {ASKED}",
            ),
            Edit("questions.py", "lambda: self._bounds(ledger),", "lambda: early,"),
        ),
        in_ci=True,
    ),
    Mutant(
        "vouching without identity",
        "vouches_for_run",
        "a server that was rolled back meanwhile is vouched for",
        (Edit("suppression/vouch.lua", "or run ~= ARGV[3] or replication ~= ARGV[4] then", "then"),),
        in_ci=True,
    ),
    Mutant(
        "vouching without epoch",
        "vouches_for_epoch",
        "a bucket that was begun anew meanwhile is vouched for",
        (Edit("suppression/vouch.lua", "if m[2] ~= ARGV[2] or run", "if run"),),
    ),
    Mutant(
        "vouching before the end",
        "vouches_at_end",
        "a bucket that has not read its ledger is vouched for",
        (Edit("suppression/vouch.lua", "if tonumber(m[3]) < tonumber(ARGV[5]) then", "if false then"),),
    ),
    Mutant(
        "the ledger ends where it may be read",
        "ledger_as_held",
        "what stands behind a transaction that is open is not waited for",
        (
            Edit(
                "questions.py",
                "lambda: self._bounds(ledger),",
                "lambda: {p: Bounds(0, end) for p, end in self._offsets.stable_ends(ledger).items()},",
            ),
        ),
    ),
    Mutant(
        "a time that lies ahead is taken for now",
        "refuses_ahead",
        "it was read before the clock was set back, and covers what came in since",
        (
            Edit("suppression/vouch.lua", "if math.max(fresh, tonumber(ARGV[7])) > now then", "if false then"),
            Edit(
                "suppression/vouch.lua",
                "local fresh, before = tonumber(ARGV[6])",
                "local fresh, before = math.min(tonumber(ARGV[6]), now)",
            ),
        ),
    ),
    Mutant(
        "a new identity is not counted",
        "counts_first",
        "what was counted on another server counts on this one",
        (
            Edit(
                "voucher.py",
                "self._audited: dict[int, tuple[str, float]] = {}",
                'self._audited = type("Kept", (dict,), {"clear": lambda _: None, "pop": lambda *_: None})()',
            ),
        ),
    ),
    Mutant(
        "counted once",
        "counts_again",
        "what is lost later is never found",
        (
            Edit(
                "voucher.py",
                'epoch, when = self._audited.get(bucket, ("", -math.inf))',
                'epoch, when = self._audited.get(bucket, ("", -math.inf))[0], math.inf',
            ),
        ),
    ),
    Mutant(
        "the run id alone is the identity",
        "replication_counts",
        "a server that was demoted and promoted again carries its own run id in a marker of before",
        (
            Edit(
                "guard/answer.py",
                "(answer.marked_run, answer.marked_replication) != server",
                "answer.marked_run != answer.run",
            ),
        ),
    ),
]

L5 = [
    Mutant(
        "a skip passes over all that it names",
        "batch_skips_unreadable_only",
        "what can be read behind a batch is not looked for",
        (Edit("kafka/probe.py", "return min(limit, found.offset) if found.unpacked else limit", "return limit"),),
    ),
    Mutant(
        "a skip of inbound is of a name, whichever topic has it",
        "batch_skips_name_topic",
        "the topic's id is not compared",
        (Edit("domain/skips.py", "if skip.topic_id != self.topic_id:", "if False:"),),
    ),
    Mutant(
        "a skip of inbound counts for who hears of it",
        "batch_skips_kept",
        "whoever comes later does not read it",
        (
            Edit(
                "skips.py",
                "self.changes = 0\n",
                "self.changes = 0\n        self._since = time.time_ns() // 1_000_000\n",
            ),
            Edit("skips.py", "from typing import", "import time\nfrom typing import"),
            Edit(
                "skips.py",
                "if written.skip is not None and (skips",
                "if written.skip is not None and written.skip.recorded_at >= self._since and (skips",
            ),
        ),
    ),
    Mutant(
        "committed before it is acknowledged",
        "commits_acknowledged",
        "positions are committed instead of the newest mark that is done",
        (Edit("domain/marks.py", "return self._done", "return self.positions"),),
    ),
    Mutant(
        "committed before it is acknowledged, in the end",
        "commits_acknowledged",
        "who gives partitions up, or ends, commits positions instead of the newest mark that is done",
        (
            Edit(
                "committing.py",
                "for p, offset in self._marks.done().items()",
                "for p, offset in self._marks.positions.items()",
            ),
        ),
    ),
    Mutant(
        "acknowledgements are counted",
        "completes_its_mark",
        "each acknowledgement completes the oldest mark that is not done, whichever its record was made under",
        (
            Edit("domain/marks.py", "        return self._open\n", "        return self\n"),
            Edit(
                "domain/marks.py",
                "    def note(self)",
                "    def acknowledged(self):\n"
                "        oldest = next(mark for mark in (*self._noted, self._open) if mark.outstanding)\n"
                "        oldest.outstanding -= 1\n\n"
                "    def note(self)",
            ),
        ),
    ),
    Mutant(
        "a mark is done before earlier ones",
        "completes_in_order",
        "the newest mark that has nothing outstanding itself is committed",
        (
            Edit(
                "domain/marks.py",
                "        while self._noted and not self._noted[0].outstanding:\n"
                "            self._done = self._noted.popleft().positions\n",
                "        for mark in [mark for mark in self._noted if not mark.outstanding]:\n"
                "            self._noted.remove(mark)\n"
                "            self._done = mark.positions\n",
            ),
        ),
    ),
    Mutant(
        "a mark is kept over a revoke",
        "leaves_marks",
        "what was noted under an earlier assignment is committed when it is done",
        (
            Edit(
                "domain/marks.py",
                "(self.positions, self._last, self._done, *(mark.positions for mark in self._noted))",
                "(self.positions,)",
            ),
        ),
    ),
    Mutant(
        "an empty partition is not committed",
        "commits_at_takeover",
        "a classifier commits only what moved",
        (Edit("committing.py", "if there.get(p) != offset}", "if there.get(p, 0) != offset}"),),
    ),
    Mutant(
        "the end is not committed",
        "commits_at_end",
        "a classifier stays in front of the last control record",
        (Edit("classifier.py", "for partition, end in read.ends.items():", "for partition, end in ():"),),
    ),
    Mutant(
        "a classifier goes on at the end",
        "resumes_at_committed",
        "what came while nobody was there is skipped",
        (
            Edit(
                "classifier.py",
                "for partition, start in found.items() if start is not None}\n",
                "for partition, start in found.items() if start is not None}\n"
                "            starts = {partition: self._kept._group.end(partition, 10.0) for partition in starts}\n",
            ),
        ),
    ),
    Mutant(
        "a classifier begins at the end",
        "begins_at_first",
        "what came before the first classifier is skipped",
        (
            Edit(
                "kafka/committed.py",
                "return self._watermarks(partition, timeout)[0]",
                "return self._watermarks(partition, timeout)[1]",
            ),
        ),
    ),
    Mutant(
        "a classifier goes on behind a stranger",
        "resumes_at_noted",
        "what the stranger took is never classified",
        (
            Edit(
                "classifier.py",
                "start = kept.greatest(note)",
                'start = max((one.offset for one in kept if one and one.note in ("", note)), default=None)',
            ),
        ),
    ),
    Mutant(
        "what a stranger commits counts",
        "counts_noted",
        "the voucher takes what the stranger took for read",
        (
            Edit(
                "kafka/offsets.py",
                COUNTED,
                'max((one.offset for one in kept if one and one.note in ("", notes[partition.topic])), default=None)',
            ),
        ),
    ),
    Mutant(
        "what was overwritten is not written again",
        "writes_again",
        "where nothing moves nobody can say how far it was read",
        (
            Edit("keeper.py", "if copy is None or copy.note != note or copy.offset < known[partition]:", "if False:"),
            Edit(
                "keeper.py", "if group is None or group.note != note or group.offset < known[partition]:", "if False:"
            ),
        ),
    ),
    Mutant(
        "a commit names no ledger",
        "names_ledger",
        "nobody can tell what it stands for",
        (Edit("kafka/inbox.py", 'notes.get(p.topic, "")) for', '"") for'),),
    ),
    Mutant(
        "a classifier goes on behind another ledger",
        "refuses_other_ledger",
        "what stands in the other one is missing in this one",
        (
            Edit(
                "classifier.py",
                'other = one.note.partition("/")[0]',
                'return one.offset\n                other = one.note.partition("/")[0]',
            ),
        ),
    ),
    Mutant(
        "offsets for another ledger count",
        "counts_own_ledger",
        "the voucher takes what stands in another ledger for read",
        (
            Edit(
                "kafka/offsets.py",
                COUNTED,
                "max((one.offset for one in kept if one and one.note), default=None)",
            ),
        ),
    ),
    Mutant(
        "a commit names no inbound topic",
        "names_topic",
        "an offset that was reached in a deleted topic counts for its successor",
        (
            Edit(
                "inbound.py",
                'f"{self.ledger_id}/{ids[name]}" if ids[name] else self.ledger_id',
                "self.ledger_id",
            ),
        ),
    ),
    Mutant(
        "a classifier goes on in another topic",
        "rereads_other_topic",
        "what stands below the offset of the deleted topic is skipped in its successor",
        (
            Edit(
                "classifier.py",
                'it is read from its beginning", **place)\n            return None',
                'it is read from its beginning", **place)\n            return max(one.offset for one in found)',
            ),
        ),
    ),
    Mutant(
        "a classifier does not look at its topics",
        "notices_other_topic",
        "it commits offsets that nobody counts, for ever",
        (Edit("inbound.py", "if found[topic] != self.notes[topic]:", "if False:"),),
    ),
    Mutant(
        "offsets of another topic count",
        "counts_own_topic",
        "the voucher takes what was reached in the deleted topic for read in its successor",
        (
            Edit(
                "kafka/offsets.py",
                COUNTED,
                'max((one.offset for one in kept if one and one.note.partition("/")[0] == '
                'notes[partition.topic].partition("/")[0]), default=None)',
            ),
        ),
    ),
    Mutant(
        "which topics they are is asked first",
        "clock_before_topics",
        "the clock covers what came into the successor of the one that was asked about",
        (
            Edit("questions.py", ASKED, f"early = self._notes()\n        {ASKED}"),
            Edit("questions.py", "self._notes,\n", "lambda: early,\n"),
        ),
    ),
    Mutant(
        "a partition without a commit is passed over",
        "unread_holds_back",
        "the time covers what nobody has read",
        (
            Edit(
                "domain/freshness.py",
                "if all(_number(committed.get(partition)) >= end",
                "if all(committed.get(partition) is None or _number(committed.get(partition)) >= end",
            ),
        ),
    ),
    Mutant(
        "one partition is enough",
        "every_partition",
        "the time covers what is read of the furthest one",
        (Edit("domain/freshness.py", "if all(_number(", "if any(_number("),),
    ),
    Mutant(
        "the clock is read after the ends",
        "clock_before_sample",
        "a text that came in between is older than the sample and not in it",
        (
            Edit(
                "voucher.py",
                "reached(now, committed, bounds)",
                "reached(self._view.server().time, committed, bounds)",
            ),
        ),
    ),
    Mutant(
        "samples end where inbound may be read",
        "samples_as_held",
        "the time covers what stands behind a transaction that is open",
        (
            Edit(
                "questions.py",
                "lambda: self._bounds(known),",
                "lambda: {p: Bounds(0, end) for p, end in self._offsets.stable_ends(known).items()},",
            ),
        ),
    ),
    Mutant(
        "what waits for the ledger's end outlives its clock",
        "drops_claims",
        "it looks new once the clock that was set back has caught up",
        (Edit("voucher.py", "if identity not in back and", "if"),),
    ),
    Mutant(
        "the list of partitions is kept",
        "lists_live",
        "a partition that was created later holds nothing back",
        (
            Edit(
                "questions.py",
                "return self._offsets.partitions(self._inbound.topics)",
                'return self.__dict__.setdefault("_kept", self._offsets.partitions(self._inbound.topics))',
            ),
        ),
    ),
]

L6 = [
    Mutant(
        "guard ignoring the marker",
        "guard_identity",
        "membership alone decides",
        (
            Edit(
                "guard/answer.py",
                "if standing.reason is not None or fresh is None:  # in a replay",
                "fresh = fresh or now\n        if False:  # in a replay",
            ),
        ),
        in_ci=True,
    ),
    Mutant(
        "a marker of any server will do",
        "guard_identity",
        "the guard does not compare identities",
        (Edit("guard/answer.py", "if (answer.marked_run, answer.marked_replication) != server:", "if False:"),),
    ),
    Mutant(
        "the guard asks in two steps",
        "guard_at_once",
        "membership is of before, the marker of after",
        (
            Edit(
                "guard/guard.py",
                "            answer = self._line(node).ask(command) if node.url",
                "            before = node.client.execute_command(*command)\n"
                "            answer = self._line(node).ask(command) if node.url",
            ),
            Edit(
                "guard/guard.py",
                "        return alone(call, word, answer,",
                "        answer[9] = before[9]\n        return alone(call, word, answer,",
            ),
        ),
    ),
]

PASSES = [
    Mutant(
        "a pass is found and not taken",
        "passes_at_once",
        "whoever asks finds it",
        (Edit("guard/confirm.lua", "  if take then redis.call('ZREM', KEYS[3], pass) end\n", ""),),
    ),
    Mutant(
        "a pass of the patient",
        "passes_by_offset",
        "it does not say for which text it is",
        (
            Edit("guard/confirm.lua", "kind .. ':' .. ARGV[3] .. ':'", "kind .. ':' .. ':'"),
            Edit("suppression/apply.lua", "status .. ':' .. ARGV[i + 7] .. ':'", "status .. ':' .. ':'"),
        ),
    ),
    Mutant(
        "an opt-in is confirmed to anybody",
        "passes_by_kind",
        "it is not asked whether the patient is opted out again",
        (Edit("guard/confirm.lua", "elseif member == 0 and is_granted", "elseif is_granted"),),
    ),
    Mutant(
        "a pass for ever",
        "passes_in_window",
        "nobody looks when it is over",
        (Edit("guard/confirm.lua", "if until_ and tonumber(until_) > now then", "if until_ then"),),
    ),
    Mutant(
        "a pass of any server",
        "passes_when_vouched",
        "it is taken where nobody vouches",
        (
            Edit(
                "guard/confirm.lua",
                "if marker[1] == run and marker[2] == replication and string.match(marker[3] or '', '^%-?%d+$') then",
                "marker[3] = marker[3] or now\nif true then",
            ),
            Edit("guard/confirming.py", "said if standing.reason is None else", "said if said else"),
        ),
    ),
    Mutant(
        "passes outlive a vouching",
        "first_vouching_drops_passes",
        "what a replay granted once more stays",
        (
            Edit(
                "suppression/vouch.lua",
                "if m[4] ~= run or m[5] ~= replication then redis.call('DEL', KEYS[2]) end",
                "",
            ),
        ),
    ),
]
