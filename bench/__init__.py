"""The benchmark: ``vectordb bench`` measures vectordb beside other vector databases; ``bench.foundation`` measures a release."""
