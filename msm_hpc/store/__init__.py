"""What exists: what is done, what is running, what was tried. Plain files that any login node can read.

``ROOT/steps/KIND/IDENTITY/`` holds for each step

- ``step.json``: kind, name, config and inputs, enough to run the step in a job or to say why it differs
- ``lease.json``: the job that is making it
- ``attempts/001.json``: one file for each try: where, when, and the cause of its end
- ``out.partial/``, then by one rename ``out/``: the result
- ``done.json``: hashes and sizes of the result's files; a step is done when this and ``out/`` exist

``ROOT/campaigns/NAME.json`` is what a campaign was asked for, ``ROOT/submissions.jsonl`` the journal of what was
submitted: the jobs that steps are queued in. ``ROOT/submitting.json`` is there while a run submits.
"""
