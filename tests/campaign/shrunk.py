"""Overrides that shrink the demo campaign to seconds a step; what is left is still every kind of step."""

SHRUNK = (
    "campaign=demo",
    "campaign.seeds=[0]",
    "generate.pretraining=300",
    "generate.documents=60",
    "generate.instruction=40",
    "generate.chats=40",
    "generate.pairs=20",
    "model.architecture.hidden_size=32",
    "model.architecture.intermediate_size=64",
    "model.architecture.num_hidden_layers=2",
    "midtrain.documents=60",
    "midtrain.replay=0",
    "midtrain.micro_batch_size=4",
    "aft.samples=[30]",
    "aft.instruction=40",
    "aft.epochs=1",
)
