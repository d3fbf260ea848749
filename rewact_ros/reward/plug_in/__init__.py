"""RewACT's head and the success classifier as reward models of LeRobot's own register.

LeRobot imports installed packages by their prefix (`lerobot_policy_…`), which this one does not
have, and others where a command names them:

    --reward_model.discover_packages_path=rewact_ros.reward.plug_in

From then on ``lerobot.rewards`` opens a checkpoint folder of either as it is. LeRobot's rule for
names finds the parts: configuration_x, modeling_x and processor_x.
"""
