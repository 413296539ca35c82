"""Planted faults in real training: cheap runs whose cause is known, for measuring the review.

`run_lab` trains SFT model, reward model and policy of a small workload through the code of `regard.train`; a fault
changes configuration, data or one of the parts that training is handed, never a number in the record.

    workloads/   tasks whose quality is exactly known
    setup.py     what a fault may change, and how
    faults/      one short function a cause
    controls.py  runs without a fault that a reviewer could mistake for ill
    run.py       from a setup to a run record
"""
