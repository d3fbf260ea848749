"""RewACT on ROS 2: a policy that acts and says how far the task has come."""

# The message generator installs `rewact_ros/msg`, `srv` and `action` beside this package; without
# this line a source tree on the path would hide them.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)

__version__ = "0.1.0"
