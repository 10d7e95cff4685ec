"""What exists: what is done, what is running, what was tried. Plain files that any login node can read.

``ROOT/steps/KIND/IDENTITY/`` holds for each step

- ``step.json``: kind, name, config and inputs, enough to run the step in a job or to say why it differs
- ``lease.json``: the job that is making it
- ``attempts/001/``: a folder for each try, in which it alone writes: ``attempt.json`` (where, when, and the cause of
  its end), ``out/`` as long as it is no result, and ``done.json`` once that is whole
- ``out/``: the result; it came by one rename from the attempt that made it, and nobody writes into it again
- ``done.json``: hashes and sizes of the result's files; a step is done when this and ``out/`` exist
- ``damaged.json``: that a reader found the result to differ from that; such a step is not done

``ROOT/campaigns/NAME.json`` is what a campaign was asked for, ``ROOT/submissions.jsonl`` the journal of what was
submitted: the jobs that steps are queued in. ``ROOT/submitting.json`` is there while a run submits. What is being
deleted lies in ``ROOT/steps/.deleted/``. ``ROOT/bad_nodes/NAME.json`` is a node that jobs leave out for a day.

**The number of an attempt is its fencing token.** A process of a lost node may live on while Slurm runs the job
elsewhere under the same id, and both believe that they hold the step::

    n1: attempt 001  ... trains ... trains ... trains ... publish: 002 is newer, so it stops
    n2:                  attempt 002, from what 001 had saved ... trains ... publish

A number is taken by a rename that only one process can do. Each writes into its own folder, and only the holder of the
newest number publishes. Who holds a step according to ``lease.json`` matters to those who queue jobs, not to this.
"""
