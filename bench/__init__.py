"""The benchmark: ``vectordb bench`` measures vectordb beside other vector databases, beside another checkout, and its own parts."""
