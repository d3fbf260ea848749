"""What a shadow policy predicted in recordings, beside the policy that moved the robot."""
