"""How good a policy and its reward are: on recordings, in Gymnasium environments, as a film."""
