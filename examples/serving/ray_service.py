"""The same service as replicas of Ray Serve, on the cores of one machine or of many.

pip install 'ray[serve]'
EMBEDDER_MODEL=$PWD/../../build/serving/model serve run ray_service:embedder
"""

from ray import serve
from service import create_app


# Each replica is a process of its own that loads the artifact; replicas of a machine share the pages of its weights.
@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=64, graceful_shutdown_timeout_s=30)
@serve.ingress(create_app)  # the function: an application cannot be sent to another process
class Embedder:
    """Routes and batching are those of service.py."""


embedder = Embedder.bind()
