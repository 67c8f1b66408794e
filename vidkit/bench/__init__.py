"""Measurement: machine facts, multiply-accumulates, memory predicted and measured, speed, the paper's ablations."""
