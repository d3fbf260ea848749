"""One thin node per file; each feeds a pure class and does what it decides."""

import signal
import sys

# A process of a node that is stopped while it imports ends without a word; `run_node` goes on.
if "-m" in sys.orig_argv and any(w.startswith("rewact_ros.nodes.") for w in sys.orig_argv):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
