"""Time to accuracy of this package and of scikit-learn: ``python -m bench --help``.

Each file does one thing: `problems` loads and evaluates, `ours` and `rivals` run the
solvers, `sweep` searches the smallest budget that reaches an accuracy, `measure` goes
through the solvers, `summary` makes the table and `plot` the figure, both from the rows
alone, `run` joins them. `limits` and `startup` are commands of their own.
"""
