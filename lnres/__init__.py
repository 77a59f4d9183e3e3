"""See why deep networks train: normalization and residual gradient flow, measured."""
