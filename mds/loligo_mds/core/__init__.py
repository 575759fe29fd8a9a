"""The shard's state machine. Rules of this package, checked where they can be:

1. No I/O, no clock, no randomness, no await, no logging (import contract). Time comes in as `now_ns`.
2. `Shard.step(now_ns, event)` is the only way in; the list of effects it returns is the only way out.
3. The order of the effects is the durability contract: a reply behind `AppendJournal` may leave only after the
   journal has the record. The reply to the request of the step comes before what follows from it for others.
4. A request first checks everything that can refuse it, then changes tables: a refusal leaves no trace.
5. Refusals (ENOENT, EEXIST …) are answers. A broken invariant is `InvariantBroken`: it stops the shard.
6. Values handed out are snapshots: the core never changes an `Attributes` that it has given away.
7. A step is bounded, so that its record fits the journal: requests by `limits`, the other events by `Repeat`.

Where to look: `shard` (events to handlers), `namespace` (names), `inodes` (attributes), `content` (sizes, inline data,
what objects may exist), `xattrs` (and ACLs), `sessions` (exactly once, coming back), `opens` and `open_file` (who has what
open, and how a file is shared), `admission` (what a client may ask at all), `state` (tables, write set, counters),
`invariants` (what must always hold). `codec` is the wire's side of requests and answers.
"""
