"""Algorithm ``act_sac``: an actor of its own, an ACT transformer that begins as the base."""

from .algorithm import Algorithm

ACT_SAC = Algorithm(
    usual={
        "enable_q_chunking": True,
        "use_act_actor": True,
        "actor_leads": True,
        "base_candidate": False,
        "actor_in_target": False,
        "imitation_steps": 20,
        "speeds": (1.0, 1.5, 2.0, 3.0),
        "exploration": 0.3,
        "exploration_half_life": 800,
        "actor_online_share": 0.0,
        "intervention_share": 0.5,
        "actor_ema_decay": 0.999,
        "q_weight": 0.0,
        "temperature_init": 1e-4,
        "log_std_min": -7.0,
        "log_std_max": -4.0,
        "mixed_precision": "bf16",
        "utd_ratio": 0.3,
        "utd_ratio_uncalibrated": 0.3,
        "batch_size": 32,
        "critic_warmup_updates": 250,
        "policy_update_freq": 1,
    },
    has_act_actor=True,
    # The unit is a joint's whole range, of which half would be no exploration but an accident:
    # exp(-3.5 - 1.4) of it is 0.7 %.
    entropy=-3.5,
)
