"""A MuJoCo ViperX-300s that picks a cube and places it in a tray."""
