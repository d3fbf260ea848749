"""Topics that tell what happened in an episode, as the nodes name them; no ROS is needed here."""

EVENTS, CONTROL = "rewact/episode_event", "rewact/control_status"
SUPERVISOR = "rewact/supervisor_status"
