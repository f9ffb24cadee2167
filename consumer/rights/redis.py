"""The users of Redis, and what each may do there: no more than its part needs.

Only workers and operators can change what is suppressed. A guard can read the sets and nothing else, so that a sender
whose password is stolen can neither opt anybody in nor look at other data. Who sends confirmations can take passes
besides, and change no set: of the keys that its one script is called with none but the passes are sorted sets. The
operator's CONFIG GET, for what `optout check-config` looks at in a cluster, shows a `requirepass`, too: with users like
these the default one is to be off.
"""

from __future__ import annotations

from typing import NamedTuple

_CONNECTING = "+select +ping +client|setname +cluster|slots"
"""What clients say before they ask anything, and how the servers of a cluster are found."""
_READING = "+info +time +hmget"


class User(NamedTuple):
    """A user: its name, who it is for, its keys and its commands, as ACL SETUSER takes them."""

    name: str
    purpose: str
    keys: str
    commands: str

    @property
    def command(self) -> str:
        """Return what makes or mends this user. It keeps the user's passwords, and one that is made has none."""
        return f"ACL SETUSER {self.name} resetkeys resetchannels clearselectors {self.keys} -@all {self.commands}"


_VIEW = "~optout:{*}:"
USERS = (
    User(
        "optout-worker",
        "workers: keep the suppression sets",
        _VIEW + "*",
        f"{_CONNECTING} {_READING} +multi +exec +evalsha +eval +evalsha_ro +eval_ro +script|load +exists +smembers "
        "+hget +hdel +hexists +hlen +hset +type +del +sadd +srem +scard +sismember +smismember +zadd +zcard +zrange "
        "+zremrangebyscore",
    ),
    User(
        "optout-guard",
        "guards, `optout check` and `optout serve`: read, and nothing else",
        "%R~optout:{*}:meta %R~optout:{*}:set:* %R~optout:{*}:state:*",
        f"{_CONNECTING} {_READING} +evalsha_ro +eval_ro +smismember",
    ),
    User(
        "optout-confirmations",
        "the sender of confirmations: a guard that can take a pass",
        "%R~optout:{*}:state:* ~optout:{*}:meta ~optout:{*}:set:* ~optout:{*}:passes",
        f"{_CONNECTING} {_READING} +evalsha_ro +eval_ro +smismember +evalsha +eval +sismember +zscore +zrem",
    ),
    User(
        "optout-operator",
        "`optout verify`, `rebuild`, `maintenance` and `check-config`",
        _VIEW + "*",
        f"{_CONNECTING} {_READING} +evalsha +eval +evalsha_ro +eval_ro +script|load +config|get +multi +exec +exists "
        "+smembers +hget +hgetall +hdel +hexists +hlen +hset +hscan +type +del +scard +sismember +smismember +sscan "
        "+zcard +zrange",
    ),
)
