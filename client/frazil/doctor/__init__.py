"""What is wrong with where Frazil is to run, found by trying, and what helps."""

from frazil.doctor.examine import examine
from frazil.doctor.finding import Finding, State

__all__ = ["Finding", "State", "examine"]
