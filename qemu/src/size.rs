//! Sections, largest symbols, RAM against the budget.
