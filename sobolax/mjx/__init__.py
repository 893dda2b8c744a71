"""MuJoCo's MJX physics, differentiable: `pip install 'sobolax[mjx]'`.

Nothing else in `sobolax` imports a simulator, and nothing imports this package but those who want
one.
"""
