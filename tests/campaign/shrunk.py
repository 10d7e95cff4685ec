"""Overrides that shrink the demo campaign to seconds a step; what is left is still every kind of step."""

SHRUNK = (
    "campaign=demo",
    "campaign.seeds=[0]",
    "sources.pretraining.generate.rows=300",
    "sources.documents.generate.rows=60",
    "sources.instruction.generate.rows=40",
    "sources.chats.generate.rows=40",
    "sources.pairs.generate.rows=20",
    "model.architecture.hidden_size=32",
    "model.architecture.intermediate_size=64",
    "model.architecture.num_hidden_layers=2",
    "sources.documents.rows=60",
    "sources.replay.rows=0",
    "stages.midtrain.micro_batch_size=4",
    "sources.chats.ladder=[30]",
    "sources.instruction.rows=40",
    "stages.aft.epochs=1",
)
