"""Names and QoS of the package's own topics; all relative, so a namespace gives a second robot."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

ACTION_CHUNK = "rewact/action_chunk"
REWARD = "rewact/reward"
REWARD_FEATURES = "rewact/reward_features"
REWARD_VALUE = "rewact/reward_value"
SUCCESS = "rewact/success"
POLICY_STATUS = "rewact/policy_status"
CONTROL_STATUS = "rewact/control_status"
MODE_REQUEST = "rewact/mode_request"
EPISODE_EVENT = "rewact/episode_event"
SUPERVISOR_STATUS = "rewact/supervisor_status"
RECORDER_STATUS = "rewact/recorder_status"
POLICY_UPDATE = "rewact/policy_update"
DECISION = "rewact/decision"
# Of the node `shadow_policy`; no node of the command path or of the judging listens to them.
SHADOW_CHUNK = "rewact/shadow/action_chunk"
SHADOW_REWARD = "rewact/shadow/reward"
SHADOW_STATUS = "rewact/shadow/status"
TRANSITIONS = "rewact/transitions"
TRANSITION_REQUEST = "rewact/transition_request"
LEARNER_STATUS = "rewact/learner_status"
EXECUTE_TASK = "rewact/execute_task"
DIAGNOSTICS = "/diagnostics"
SIM_TRUTH = "sim/truth"
SIM_OBJECTS = "sim/objects"

# Cameras and joints: the newest counts, and a sensor may publish best effort (REP-2003).
SENSOR = QoSProfile(
    depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
# What a driver publishes: reliable offers match reliable and best-effort subscribers.
SENSOR_OUT = QoSProfile(
    depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)
# Commands: the newest must arrive, an older one never.
COMMAND = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
)
EVENTS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
# State that a late joiner needs at once.
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
