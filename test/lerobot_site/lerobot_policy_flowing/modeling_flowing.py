"""The policy: it passes the obstacle on the left or on the right, as its noise happens to be."""

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc.modeling_rtc import RTCProcessor

from .configuration_flowing import FlowingConfig


class FlowingPolicy(PreTrainedPolicy):
    """All joints of a step go to +`side`, or to -`side`: whichever is nearer to the noise."""

    config_class, name = FlowingConfig, "flowing"

    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.config, self.side = config, torch.nn.Parameter(torch.tensor([0.5]))
        self.rtc_processor = None
        self.init_rtc_processor()

    def init_rtc_processor(self):
        if self.config.rtc_config is not None:
            self.rtc_processor = RTCProcessor(self.config.rtc_config)

    def supports_rtc(self):
        return True

    def reset(self):
        pass

    def get_optim_params(self):
        return self.parameters()

    def forward(self, batch):
        raise NotImplementedError

    @torch.no_grad()
    def predict_action_chunk(self, batch, **kwargs):
        state = batch["observation.state"]
        x = torch.randn(len(state), self.config.chunk_size, state.shape[-1])
        steps = self.config.denoising_steps
        for k in range(steps):
            time = 1.0 - k / steps

            def velocity(x, time=time, seen=state):
                wanted = self.side * torch.tanh(8 * x.mean((1, 2), keepdim=True))
                return (x - wanted - 0 * seen.sum()) / time

            if self.rtc_processor is None:
                v = velocity(x)
            else:
                v = self.rtc_processor.denoise_step(
                    x_t=x,
                    prev_chunk_left_over=kwargs.get("prev_chunk_left_over"),
                    inference_delay=kwargs.get("inference_delay"),
                    time=time,
                    original_denoise_step_partial=velocity,
                    execution_horizon=kwargs.get("execution_horizon"),
                )
            x = x - v / steps
        return x

    def select_action(self, batch, **kwargs):
        return self.predict_action_chunk(batch)[:, 0]
