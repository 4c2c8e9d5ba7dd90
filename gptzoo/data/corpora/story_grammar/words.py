"""The vocabulary of the stories.

Words that start with a vowel letter take `an` and other words take `a`, so `hour` and `unicorn` are left out.
"""

from __future__ import annotations


def _list(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(",")]


GIRLS = _list(
    """Ada, Amy, Anna, Bea, Bela, Clara, Dora, Edda, Elsa, Emi, Fern, Freya, Greta, Hana, Hilda, Ida, Inga, Iris, Ivy,
    Jo, Kaya, Kira, Lena, Lily, Lotte, Lucy, Maya, Mia, Mina, Nell, Nina, Nora, Olga, Penny, Pia, Rosa, Ruth, Sana,
    Selma, Suki, Tess, Thea, Uma, Vera, Wilma, Yuna, Zara, Zoe"""
)
BOYS = _list(
    """Abel, Adam, Alf, Amos, Anton, Arlo, Ben, Bruno, Carlo, Dan, Elias, Emil, Ezra, Felix, Finn, Fred, Gus, Hans,
    Hugo, Ian, Igor, Ivo, Jack, Jonas, Kai, Karl, Lars, Leo, Luca, Max, Milo, Ned, Nico, Noah, Olaf, Omar, Oscar, Otto,
    Paul, Pedro, Ravi, Sam, Tariq, Theo, Tom, Viktor, Wim, Yusuf"""
)
TRADES = _list(
    """baker, beekeeper, blacksmith, bookbinder, candle maker, captain, carpenter, clockmaker, cobbler, cook, doctor,
    farmer, fiddler, fisher, florist, gardener, glassblower, innkeeper, juggler, librarian, lighthouse keeper,
    locksmith, mayor, miller, painter, potter, sailor, shepherd, tailor, teacher, toymaker, weaver"""
)
ELDERS = {
    "she": _list("Grandma, Mother, Aunt Agnes, Aunt Berta, Aunt Willow, Old Mrs Finch, Old Mrs Plum, Old Mrs Teale"),
    "he": _list("Grandpa, Father, Uncle Bo, Uncle Edgar, Uncle Moss, Old Mr Crumb, Old Mr Pike, Old Mr Thorn"),
}

# Things that can be carried, by category: (adjectives, nouns). Every adjective fits every noun of its category.
THINGS = {
    "trinket": (
        _list("brass, bright, copper, dented, golden, old, polished, rusty, shiny, silver, strange, tin, tiny"),
        _list("bell, buckle, button, coin, compass, hook, key, locket, medal, ring, spoon, thimble, watch, whistle"),
    ),
    "metal": (
        _list("brass, copper, dented, enormous, golden, heavy, old, polished, rusty, shiny, silver, strange, tin"),
        _list("candlestick, cup, horn, kettle, lantern, padlock, saucepan, teapot, trumpet, watering can, weathercock"),
    ),
    "cloth": (
        _list(
            """blue, checked, cosy, green, knitted, orange, patched, purple, red, soft, spotted, striped, velvet, warm,
            woolly, yellow"""
        ),
        _list(
            "apron, blanket, cap, cloak, coat, cushion, flag, glove, hat, mitten, pillow, purse, quilt, ribbon, scarf"
        ),
    ),
    "wood": (
        _list("big, carved, crooked, light, little, narrow, new, oak, painted, plain, smooth, squeaky, sturdy, wooden"),
        _list(
            """basket, boat, bow, broom, bucket, cart, chair, drum, fiddle, flute, ladder, paddle, puppet, rake, sledge,
            spade, stool, top, tray, wheel"""
        ),
    ),
    "paper": (
        _list("curious, elegant, folded, inky, lovely, secret, thin, torn, wonderful, yellowed"),
        _list(
            "book, card, drawing, fan, kite, letter, map, notebook, paper boat, paper crown, picture, poster, riddle"
        ),
    ),
    "nature": (
        _list("brown, grey, lucky, odd, pale, perfect, pretty, round, small, speckled, spiky, white"),
        _list(
            "acorn, chestnut, crystal, feather, flower, leaf, pebble, pine cone, rose, seed, shell, stone, twig, walnut"
        ),
    ),
    "food": (
        _list("big, delicious, enormous, fresh, fine, little, lovely, plump, round, small, tasty"),
        _list(
            """apple, biscuit, bun, cabbage, cake, carrot, cherry pie, egg, lemon, melon, onion, orange, pancake, peach,
            pear, plum, potato, pumpkin, sausage, turnip"""
        ),
    ),
    "groceries": (
        _list("big, extra, fine, good, large, little, small"),
        _list(
            """bag of flour, bag of nuts, bar of chocolate, basket of berries, block of butter, bottle of oil, bunch of
            grapes, bunch of parsley, jar of jam, jug of milk, loaf of bread, piece of cheese, pot of honey, slice of
            ham, spoonful of salt, tin of tea"""
        ),
    ),
}
COLOURS = _list("black, blue, brown, gold, green, grey, orange, pink, purple, red, silver, white, yellow")

ANIMALS = dict(
    pair.split("/")
    for pair in _list(
        """badger/badgers, bear/bears, beetle/beetles, bee/bees, butterfly/butterflies, calf/calves, cat/cats,
        cricket/crickets, crow/crows, deer/deer, dog/dogs, donkey/donkeys, dove/doves, duck/ducks, fox/foxes,
        frog/frogs, goat/goats, goose/geese, hare/hares, hedgehog/hedgehogs, hen/hens, heron/herons, horse/horses,
        kitten/kittens, lamb/lambs, lizard/lizards, magpie/magpies, mole/moles, mouse/mice, newt/newts, otter/otters,
        owl/owls, ox/oxen, parrot/parrots, pig/pigs, pony/ponies, puppy/puppies, rabbit/rabbits, robin/robins,
        rooster/roosters, sheep/sheep, snail/snails, spider/spiders, squirrel/squirrels, swan/swans, toad/toads,
        tortoise/tortoises, turkey/turkeys, weasel/weasels"""
    )
)
ANIMAL_ADJECTIVES = _list(
    "brave, clever, fat, friendly, gentle, grumpy, hungry, lazy, old, proud, quick, quiet, shy, young"
)

# Places: (preposition for being there, noun).
PLACES = [
    tuple(pair.split(" ", 1))
    for pair in _list(
        """at the bakery, at the castle, at the fair, at the harbour, at the library, at the market, at the mill, at the
        school, at the station, at the town hall, at the windmill, at the workshop, by the brook, by the canal, by the
        lake, by the pond, by the river, by the sea, by the waterfall, by the well, in the attic, in the barn, in the
        cave, in the clearing, in the cornfield, in the courtyard, in the forest, in the garden, in the greenhouse, in
        the kitchen, in the meadow, in the orchard, in the park, in the stable, in the tower, in the valley, in the
        village, in the vineyard, on the beach, on the bridge, on the farm, on the hill, on the island, on the pier,
        on the roof"""
    )
]
HIDING_PLACES = _list(
    """behind the barrel, behind the clock, behind the curtain, behind the door, behind the mirror, behind the oven,
    behind the woodpile, beside the chimney, in the bathtub, in the birdcage, in the blue vase, in the boot, in the
    bread bin, in the cupboard, in the empty jar, in the flowerpot, in the drawer, in the hollow tree, in the laundry
    basket, in the piano, in the sugar bowl, in the top hat, in the toy chest, in the wheelbarrow, on the highest
    shelf, on the windowsill, under the bed, under the big leaf, under the bucket, under the carpet, under the
    doormat, under the stairs, under the table, under the teacosy"""
)
WAYS = _list(
    """across the field, across the square, along the canal, along the hedge, along the stream, around the fountain,
    around the haystack, around the pond, behind the church, between the birches, between the two rocks, down the
    alley, down the slope, into the tunnel, over the bridge, over the fence, over the stile, past the bakery, past the
    beehives, past the lighthouse, past the mill, past the old oak, past the statue, through the arch, through the
    cornfield, through the gate, through the gap in the wall, through the orchard, under the railway, up the hill, up
    the steps"""
)

# Weather: season -> (adjectives for the day, sentences about it).
WEATHER = {
    "spring": (
        _list("breezy, bright, drizzly, fresh, mild, rainy, sunny"),
        [
            "The first swallows were back.",
            "The ditches were full of yellow flowers.",
            "Rain dripped from every leaf.",
            "The wind smelled of wet earth.",
            "New grass stood along the road.",
            "Lambs were jumping on the slopes.",
        ],
    ),
    "summer": (
        _list("blazing, clear, dusty, golden, hot, lazy, sunny, warm"),
        [
            "The air hummed with bees.",
            "There was not a cloud in the sky.",
            "Even the dogs lay in the shade.",
            "Thunder grumbled far away.",
            "The wheat stood high and yellow.",
            "The road was white with dust.",
        ],
    ),
    "autumn": (
        _list("chilly, foggy, gloomy, golden, grey, misty, stormy, windy"),
        [
            "Leaves danced down the street.",
            "Smoke rose straight from the chimneys.",
            "The wind tugged at every hat.",
            "The hedges were red with berries.",
            "Fog lay over the fields like a quilt.",
            "Geese were flying south.",
        ],
    ),
    "winter": (
        _list("bitter, clear, cold, dark, frosty, icy, quiet, snowy"),
        [
            "Snow lay deep on the roofs.",
            "Ice flowers grew on the windows.",
            "The pond was frozen hard.",
            "Every twig wore a white coat.",
            "The snow creaked under their boots.",
            "The stars seemed very near.",
        ],
    ),
}
TIMES = _list("afternoon, day, evening, morning")

FEELINGS_GOOD = _list("brave, cheerful, glad, grateful, happy, merry, pleased, proud, very lucky, warm inside")
FEELINGS_BAD = _list("afraid, cross, gloomy, lonely, puzzled, sad, sorry, tired, upset, worried")
MOVED = _list(
    "crept, hurried, jogged, marched, ran, rode, rushed, skipped, strolled, tiptoed, trotted, walked, wandered"
)
SAID = _list("answered, called, cried, declared, laughed, murmured, replied, said, said, shouted, whispered")
ANIMAL_DEEDS = _list(
    """blinked, came closer, followed for a while, hid in the grass, looked up, pretended to be asleep, sat down nearby,
    sneezed twice, stole a crumb, turned its back, watched from a wall, yawned, went on its way"""
)
CHORES = _list(
    """baked a pie, built a birdhouse, caught a fish, cleaned the cellar, climbed a tree, counted the spoons, dug a
    ditch, drew a dragon, fed the rabbits, fixed the gate, flew a kite, folded the sheets, knitted a sock, learned a
    poem, made soup, mended a net, milked the goat, painted the fence, picked apples, planted beans, polished the
    bell, read a book, sewed a button, stacked the firewood, swept the yard, visited a cousin, washed the dog, wrote a
    letter"""
)
DAYS = _list("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
PLANTS = _list(
    """beans, bluebells, cabbages, carrots, daisies, lettuces, lilies, marigolds, onions, pansies, parsley, peas,
    poppies, pumpkins, radishes, roses, sunflowers, tomatoes, tulips, turnips"""
)
NUMBERS = _list("one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve")
ORDINALS = _list("first, second, third, fourth, fifth")

# Invented words are two or three syllables. There are too many combinations to memorise, so a model must copy them.
SYLLABLES = _list(
    """ba, be, bim, bo, da, del, di, dor, fa, fen, fi, fo, ga, gil, go, ka, kel, ki, kor, la, lem, li, lo, ma, mel, mi,
    mor, na, ni, no, nu, pa, pel, pi, pom, ra, ril, ro, ru, sa, sel, si, so, ta, tel, ti, tor, tu, va, vel, vi, wa,
    wen, wi, wo, za, zel, zi, zo"""
)

MORALS = [
    "A thing is only lost until somebody looks for it.",
    "Good friends remember the little things.",
    "It is better to ask twice than to go wrong once.",
    "Whoever shares has company.",
    "Slow feet arrive as well.",
    "A kind word costs nothing.",
    "Small hands can carry big surprises.",
    "What you say first, you should do first.",
    "Nobody is too small to help.",
    "A promise is a promise.",
]
