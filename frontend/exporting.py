"""The lock of everything that traces."""

import threading

# torch.export changes torch's own classes while it traces: one thread at a time, and nothing else that traces meanwhile.
EXPORTING = threading.RLock()
