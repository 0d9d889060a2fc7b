"""Explainers: one file each, declaring ``CARD`` and ``load()``; the contract is `musae.explainers.explainer`."""
