"""Language models, embedders and servers: where they come from, how they load, how they compute."""
