"""Small controlled worlds: where the truth is known, so that a film can be judged without raters.

Each world is a *source* of the pipeline (films, a sidecar timeline per film, a manifest), and its
captions reach the model by the caption backend `given`. Worlds import `corpus` only.

======================  =========================================================================
`worlds.arena`          a 2-D world in NumPy: one sprite, eight actions, blocks in the way
`worlds.arena_oracle`   reads positions and actions back from arena pixels
`worlds.arena_eval`     interventions, chance and ceilings for arena films
`worlds.arena_own`      films that a model made from a real start frame, and what it did in them
`worlds.rates`          shares with intervals
`worlds.doom`           films a scripted player in ViZDoom; replays a scene bit by bit
`worlds.doom_player`    the script of that player
`worlds.verbalise`      the one place where actions become words
`worlds.record`         writes a world's footage as mp4 films, timelines and a manifest
======================  =========================================================================

A world's chunk follows the corpus clock: 16 fps, frame 0 is the start frame, chunk i is frames
``1 + 4i .. 4 + 4i``, and action i is what happens *during* chunk i.

A new world needs: a recorder that gives frames and actions for a seed, words for its actions in
`worlds.verbalise`, a few lines in `worlds.record` that turn both into shots, and an oracle.
"""
