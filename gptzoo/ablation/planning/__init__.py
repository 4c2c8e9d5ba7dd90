"""The plan of an ablation: trials, calibration, forecast and the ablation folder."""
